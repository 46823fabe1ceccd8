"""The tasks of the drills, the canary and the tests."""
