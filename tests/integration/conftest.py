"""What tests over the doors of the site share."""

from tests.integration.doors_fixtures import doors  # noqa: F401 -- a fixture
