"""How far a standby is behind, from positions of the log and one clock."""

from hyrex_broker.storage.lag import LagMeter


def test_a_standby_lags_from_the_first_position_that_it_lacks() -> None:
    meter = LagMeter()
    for moment, position in ((0.0, 100), (0.5, 200), (1.0, 300)):
        meter.written(moment, position)
    assert meter.lag_s(1.2, 100) == 1.2 - 0.5
    assert meter.lag_s(1.4, 299) == 1.4 - 1.0
    assert meter.lag_s(1.5, 300) == 0.0


def test_a_quiet_primary_makes_no_lag() -> None:
    meter = LagMeter()
    for moment in range(100):
        meter.written(float(moment), 100)
        assert meter.lag_s(moment + 0.5, 100) == 0.0
    assert meter.has_all_but(99.5, 1.0)


def test_nothing_is_known_before_something_was_replayed_that_was_noted() -> None:
    meter = LagMeter()
    assert not meter.has_all_but(0.0, 1.0)
    meter.written(0.0, 100)
    meter.lag_s(0.5, 50)
    assert not meter.has_all_but(0.5, 1.0)
    meter.lag_s(0.6, 100)
    assert meter.has_all_but(0.6, 1.0)


def test_nothing_is_known_of_what_was_written_while_nobody_looked() -> None:
    meter = LagMeter()
    meter.written(0.0, 100)
    assert meter.lag_s(5.0, 100) == 0.0
    assert not meter.has_all_but(5.0, 1.0)
    meter.written(5.0, 900)
    meter.forget()
    assert not meter.has_all_but(5.1, 10.0)
