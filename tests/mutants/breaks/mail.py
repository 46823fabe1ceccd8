"""A mail goes once to whom it should."""

from tests.mutants.breaks.base import Break

_I = "tests/integration"

BREAKS = [
    Break(
        "mail",
        "a mail of which nobody knows whether it arrived is sent again",
        "flaskapp/mail/delivering.py",
        "if self._at_least_once or self._transport.is_repeatable:",
        "if True:",
        f"{_I}/test_mail.py::test_a_line_that_breaks_after_the_content_leaves_unknown[sqlite]",
    ),
    Break(
        "mail",
        "a pause is looked at before a message only, not before each recipient",
        "flaskapp/mail/recipients.py",
        "_TABLE.c.state.in_(OPEN_STATES), ~stopped)",
        "_TABLE.c.state.in_(OPEN_STATES))",
        f"{_I}/test_mail.py::test_a_pause_in_the_middle_stops_before_the_next[sqlite]",
    ),
    Break(
        "mail",
        "any certificate is good enough",
        "flaskapp/mail/smtp.py",
        "context = ssl.create_default_context()",
        "context = ssl._create_unverified_context()",
        f"{_I}/test_mail.py::test_only_a_good_certificate_opens_the_line[sqlite-smtps]",
    ),
    Break(
        "mail",
        "nobody watches the job that fills a merge's rows",
        "flaskapp/mail/queries.py",
        "wanted = or_(Job.live_key.in_(keys), Job.id.in_(preparing))",
        "wanted = Job.live_key.in_(keys)",
        f"{_I}/test_mail_merge.py::test_the_page_of_a_merge_moves_while_its_rows_are_filled[sqlite]",
    ),
    Break(
        "mail",
        "the HTML of a landed mail may run where it is shown",
        "flaskapp/mail/letter_page.py",
        '"sandbox; default-src',
        '"default-src',
        f"{_I}/test_mail_pages.py::test_html_that_landed_is_framed_where_nothing_runs_and_nothing_is_fetched[sqlite]",
    ),
    Break(
        "mail",
        "a message whose job was cancelled goes on by itself",
        "flaskapp/mail/stopping.py",
        "COMPANIONS[tasks.deliver.name] = _delivery\n",
        "",
        f"{_I}/test_mail.py::test_cancelling_its_job_pauses_the_message_until_somebody_runs_it_again[sqlite]",
    ),
    Break(
        "mail",
        "strangers who write at the same moment do not see each other",
        "flaskapp/mail/contact.py",
        "    routes.lock(db.session(), routes.CONTACT)\n",
        "",
        f"{_I}/test_mail_merge.py::test_all_web_processes_count_a_strangers_messages_together[sqlite]",
    ),
    Break(
        "mail",
        "a turn is taken for the server, not for the domain",
        "flaskapp/mail/routes.py",
        "    for name, seconds in wanted.items():\n",
        "    for name, seconds in [*wanted.items()][:1]:\n",
        f"{_I}/test_mail_rates.py::test_two_processes_keep_one_rate[sqlite]",
    ),
    Break(
        "mail",
        "a turn is taken for the domain, not for the server",
        "flaskapp/mail/routes.py",
        "    for name, seconds in wanted.items():\n",
        "    for name, seconds in [*wanted.items()][1:]:\n",
        f"{_I}/test_mail_rates.py::test_two_processes_keep_one_rate[sqlite]",
    ),
    Break(
        "mail",
        "a time in a form is UTC whatever the installation's clock",
        "flaskapp/mail/moments.py",
        'entries.zone_of(current_app.extensions["celery"])',
        'entries.zone_of(current_app.extensions["celery"], "UTC")',
        f"{_I}/test_mail_pages.py::test_a_time_is_meant_by_the_clock_of_the_installation"
        "[sqlite-2031-01-31T08:00-2031-01-31T07:00:00]",
    ),
    Break(
        "mail",
        "a row without a value is sent all the same",
        "flaskapp/mail/filling.py",
        "undefined=StrictUndefined, ",
        "",
        f"{_I}/test_mail_merge.py::test_a_row_without_a_value_sends_nothing_to_anybody[sqlite]",
    ),
]
