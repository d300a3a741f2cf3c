"""No test is to fail because a machine is slow."""

from hypothesis import HealthCheck, settings


def test_property_tests_have_no_deadline():
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
