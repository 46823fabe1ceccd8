"""The forms of the login and account pages."""

from flask_wtf import FlaskForm
from wtforms import PasswordField, SelectField, StringField
from wtforms.validators import EqualTo, InputRequired, Length

from flaskapp.accounts.models import NAME_LENGTH, Role
from flaskapp.accounts.passwords import LONGEST, SHORTEST

_long_enough = Length(
    min=SHORTEST, max=LONGEST, message=f"Choose a password with {SHORTEST} to {LONGEST:,} characters."
)


class LoginForm(FlaskForm):
    name = StringField("Name", [InputRequired("Write your name."), Length(max=NAME_LENGTH)])
    password = PasswordField("Password", [InputRequired("Write your password."), Length(max=LONGEST)])


# Several of them stand on one page: an id of their own for fields of the same name.


class PasswordForm(FlaskForm):
    current = PasswordField("Current password", [InputRequired("Write your current password."), Length(max=LONGEST)])
    password = PasswordField("New password", [InputRequired("Write a new password."), _long_enough], id="new-password")
    again = PasswordField(
        "New password, again", [EqualTo("password", "The two new passwords differ. Write the same one twice.")]
    )


class TokenForm(FlaskForm):
    name = StringField(
        "Name",
        [InputRequired("Name the place where it is used."), Length(max=80, message="Use at most 80 characters.")],
        description="Where it is used, e.g. nightly import.",
        id="token-name",
    )


class AccountForm(FlaskForm):
    name = StringField("Name", [InputRequired("Write a name."), Length(max=NAME_LENGTH)], id="account-name")
    role = SelectField(
        "Role",
        choices=[role.value for role in Role],
        description="A viewer submits work and sees their own; an operator sees and steers everything;"
        " an admin also makes accounts.",
    )
    password = PasswordField(
        "First password", [InputRequired("Write a first password."), _long_enough], id="first-password"
    )
