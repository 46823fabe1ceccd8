"""What tests over the doors and windows of the site share."""

from tests.integration.doors_fixtures import doors  # noqa: F401 -- a fixture
from tests.integration.windows_fixtures import operator, site  # noqa: F401 -- fixtures
