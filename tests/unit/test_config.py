"""Settings: defaults that work on a fresh machine, and a sentence that names the variable for each that cannot."""

import os
import stat
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from flaskapp import config
from flaskapp.errors import BadSetting


def settings(folder: Path, **environment: str) -> config.Settings:
    return config.from_environment({"INSTANCE_PATH": str(folder), **environment})


def test_a_fresh_machine_needs_no_setting(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "instance")

    assert chosen.database_url.get_backend_name() == "sqlite"
    assert chosen.broker_url == f"folder://{tmp_path}/instance/broker"
    assert (chosen.lease_seconds, chosen.stop_seconds) == (30, 30)
    assert (chosen.keep_succeeded_days, chosen.keep_failed_days, chosen.trusted_proxies) == (7, 90, 0)


def test_empty_values_count_as_missing(tmp_path: Path) -> None:
    names = ("DATABASE_URL", "BROKER_URL", "SECRET_KEY", "LEASE_SECONDS", "STORAGE_URL", "RESULT_BACKEND")

    assert settings(tmp_path, **dict.fromkeys(names, "")) == settings(tmp_path)


def test_a_folder_with_odd_signs_in_its_name_works(tmp_path: Path) -> None:
    folder = tmp_path / "100% odd #name é"

    chosen = settings(folder)

    assert chosen.database_url.database == str(folder / "offload.sqlite3")


def test_the_secret_key_is_made_once_and_kept_closed(tmp_path: Path) -> None:
    first = settings(tmp_path).secret_key

    assert settings(tmp_path).secret_key == first
    assert len(first) == 64
    assert stat.S_IMODE(os.stat(tmp_path / "secret_key").st_mode) == 0o600
    assert settings(tmp_path, SECRET_KEY="given").secret_key == "given"


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql://user@localhost:5432/offload", "postgresql"),
        ("mariadb://user@localhost/offload", "mariadb+pymysql"),
        ("mysql://user@localhost/offload", "mysql+pymysql"),
        ("mariadb+pymysql://user@localhost/offload", "mariadb+pymysql"),
        ("sqlite:///some.file", "sqlite"),
    ],
)
def test_each_database_gets_its_driver(tmp_path: Path, given: str, driver: str) -> None:
    assert settings(tmp_path, DATABASE_URL=given).database_url.drivername == driver


@pytest.mark.parametrize("scheme", sorted(config.BROKERS))
def test_each_broker_is_accepted(tmp_path: Path, scheme: str) -> None:
    assert settings(tmp_path, BROKER_URL=f"{scheme}://somewhere").broker_url == f"{scheme}://somewhere"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "not a url"),
        ("DATABASE_URL", "oracle://user@localhost/offload"),
        ("DATABASE_URL", "postgresql://user@localhost:port/offload"),
        ("BROKER_URL", "kafka://localhost"),
        ("BROKER_URL", "localhost:5672"),
        ("BROKER_URL", "nonsense"),
        ("STORAGE_URL", "ftp://localhost/files"),
        ("LEASE_SECONDS", "soon"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "1.9"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "nan"),
        ("STOP_SECONDS", "-1"),
        ("STOP_SECONDS", "a minute"),
        ("KEEP_SUCCEEDED_DAYS", "-1"),
        ("KEEP_FAILED_DAYS", "for ever"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "one"),
        ("MAX_UPLOAD_BYTES", "0"),
        ("MAX_UPLOAD_BYTES", "1GB"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_an_example(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadSetting) as problem:
        settings(tmp_path, **{name: value})

    sentence = str(problem.value)
    assert sentence.startswith(name)
    assert sentence.endswith(".")
    assert "rite e.g." in sentence or "must begin with" in sentence or "Write sqlite" in sentence


def test_a_setting_that_is_not_yet_supported_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^RESULT_BACKEND is not supported yet.*Unset it"):
        settings(tmp_path, RESULT_BACKEND="redis://localhost")


def test_a_wrong_database_url_does_not_show_its_password(tmp_path: Path) -> None:
    with pytest.raises(BadSetting) as problem:
        settings(tmp_path, DATABASE_URL="oracle://user:hunter2@localhost/offload")

    assert "hunter2" not in str(problem.value)


def test_an_instance_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    for path in (file, file / "below"):
        with pytest.raises(BadSetting, match=r"^INSTANCE_PATH"):
            settings(path)


def test_the_url_survives_the_round_trip(tmp_path: Path) -> None:
    url = settings(tmp_path, DATABASE_URL="postgresql://u:p%40ss@localhost/offload").database_url

    assert url == make_url("postgresql://u:p%40ss@localhost/offload")
    assert url.password == "p@ss"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "amqp://host:abc//"),
        ("BROKER_URL", "http://["),
        ("STORAGE_URL", "file://"),
        ("STORAGE_URL", "file://uploads"),
        ("STORAGE_URL", "file:///proc/offload"),
        ("DATABASE_URL", "sqlite:////nonexistent/offload.sqlite3"),
    ],
)
def test_an_address_that_leads_nowhere_is_said_at_start(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        settings(tmp_path, **{name: value})


@pytest.mark.parametrize("url", ["amqp://me:hun#ter@host//", "amqp://me:[hunter@host//", "://me:hunter@host//"])
def test_a_broken_address_of_the_broker_repeats_no_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadSetting, match="BROKER_URL") as told:
        settings(tmp_path, BROKER_URL=url)
    assert "hun" not in str(told.value)


def test_an_empty_kept_key_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    with pytest.raises(BadSetting, match="SECRET_KEY"):
        settings(tmp_path)


def test_uploads_and_messages_stay_in_a_folder_with_odd_signs(tmp_path: Path) -> None:
    from flaskapp.uploads.storage import Storage

    folder = tmp_path / "a#b?c%41 d"
    assert Storage(settings(folder).storage_url).kept.is_relative_to(folder)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MAIL_URL", "mail.example.org", "MAIL_URL begins with"),
        ("MAIL_URL", "smtp://", "names no host"),
        ("MAIL_URL", "smtp://mail.example.org?tls=maybe", "tls=maybe"),
        ("MAIL_URL", "file://mail", "three slashes"),
        ("MAIL_FROM", "Offload <offload@example.org>", "no plain address"),
        ("MAIL_FROM", "a@b\r\nBcc: v@x", "no plain address"),
        ("MAIL_CONTACT", "nobody", "no plain address"),
        ("MAIL_RATE", "-1", "at least 0"),
    ],
)
def test_mail_that_could_not_leave_is_found_at_the_start(tmp_path: Path, name: str, value: str, sentence: str) -> None:
    with pytest.raises(BadSetting, match=sentence):
        settings(tmp_path, **{name: value})
