"""The console's blueprint; its views live in one module per noun."""

from flask import Blueprint

from flaskapp.console.viewer import need_account

console = Blueprint("console", __name__)
console.before_request(need_account)
