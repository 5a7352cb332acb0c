"""The pool's numbers as OpenTelemetry's ``db.client.connection.*`` metrics.

Names, units and attributes are those of the semantic conventions:
https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#connection-pools

Rule: only this file imports ``opentelemetry``, and only when somebody calls `instrument`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from holdfast.errors import DriverMissing
from holdfast.pool import PoolSettings, PoolStats

PREFIX = "db.client.connection."
NAME = f"{PREFIX}pool.name"
STATE = f"{PREFIX}state"
# Seconds. OpenTelemetry's own default buckets are milliseconds, and would put every wait into the first.
BOUNDARIES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)


class _Database(Protocol):
    _opened: Any

    @property
    def pool(self) -> Any: ...


def instrument(
    db: _Database, *, meter_provider: Any = None, pool_name: str | None = None
) -> Callable[[], None]:
    """Report a database's pool to OpenTelemetry; answers the function that ends it.

    ``meter_provider`` is the global one where none is given; set that first.  ``pool_name``
    distinguishes the pools of one program; by default it is ``server:port/database``, never with user
    or password.  A database reports once: a second call takes the histograms over.

    Raises:
        DriverMissing: where ``opentelemetry-api`` is not installed.
    """
    metrics = _import_metrics()
    provider = meter_provider if meter_provider is not None else metrics.get_meter_provider()
    instruments = _known.get(provider)
    if instruments is None:
        instruments = _known[provider] = _Instruments(metrics, provider)
    attributes = {NAME: pool_name or db._opened.driver.target}
    instruments.pools[db.pool] = attributes
    mine = db.pool.meter = _PoolMeter(instruments, attributes)

    def end() -> None:
        instruments.pools.pop(db.pool, None)
        if db.pool.meter is mine:
            db.pool.meter = None

    return end


def _import_metrics() -> Any:
    try:
        from opentelemetry import metrics
    except ImportError as error:
        missing = error
    else:
        return metrics
    raise DriverMissing(library="opentelemetry-api", extra="telemetry", orig=missing)


_Read = Callable[[PoolStats, PoolSettings], Iterable[tuple[float, dict[str, str]]]]


class _Instruments:
    """The instruments of one provider, for all its pools: an SDK ignores a second one of the same name."""

    def __init__(self, metrics: Any, provider: Any) -> None:
        self.pools: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
        self._observation = metrics.Observation
        meter = metrics.get_meter("holdfast", meter_provider=provider)
        for name, unit, description, read in _OBSERVED:
            meter.create_observable_up_down_counter(
                f"{PREFIX}{name}", [self._observe(read)], unit=unit, description=description
            )
        meter.create_observable_counter(
            f"{PREFIX}timeouts",
            [self._observe(lambda stats, _: ((stats.timeouts, {}),))],
            unit="{timeout}",
            description="Who waited in vain",
        )
        self.wait, self.use, self.create = (
            meter.create_histogram(
                f"{PREFIX}{name}",
                unit="s",
                description=description,
                explicit_bucket_boundaries_advisory=BOUNDARIES,
            )
            for name, description in (
                ("wait_time", "How long it took to get a connection from the pool"),
                ("use_time", "How long a connection was lent"),
                ("create_time", "How long it took to open a connection"),
            )
        )

    def _observe(self, read: _Read) -> Callable[[Any], list[Any]]:
        def callback(_: Any) -> list[Any]:
            return [
                self._observation(value, attributes | more)
                for pool, attributes in list(self.pools.items())
                for value, more in read(pool.stats(), pool.settings)
            ]

        return callback


class _PoolMeter:
    """What a pool tells at once; see `holdfast.pool.Meter`."""

    def __init__(self, instruments: _Instruments, attributes: dict[str, str]) -> None:
        self._instruments = instruments
        self._attributes = attributes

    def waited(self, seconds: float) -> None:
        self._instruments.wait.record(seconds, self._attributes)

    def used(self, seconds: float) -> None:
        self._instruments.use.record(seconds, self._attributes)

    def created(self, seconds: float) -> None:
        self._instruments.create.record(seconds, self._attributes)


def _counts(stats: PoolStats, _: PoolSettings) -> Iterable[tuple[float, dict[str, str]]]:
    return (stats.idle, {STATE: "idle"}), (stats.in_use, {STATE: "used"})


def _limit(stats: PoolStats, _: PoolSettings) -> Iterable[tuple[float, dict[str, str]]]:
    return () if stats.limit is None else ((stats.limit, {}),)


def _idle_limit(stats: PoolStats, settings: PoolSettings) -> Iterable[tuple[float, dict[str, str]]]:
    return ((settings.pool_size, {}),) if settings.pool_max_idle == 0 else _limit(stats, settings)


_OBSERVED: tuple[tuple[str, str, str, _Read], ...] = (
    ("count", "{connection}", "Connections, by state", _counts),
    ("idle.max", "{connection}", "The most connections that stay idle", _idle_limit),
    ("idle.min", "{connection}", "The least connections that stay idle", lambda *_: ((0, {}),)),
    ("max", "{connection}", "The most connections there may be", _limit),
    ("pending_requests", "{request}", "Who waits for a connection", lambda stats, _: ((stats.waiting, {}),)),
)
# provider -> its instruments; nothing here holds a connection.
_known: WeakKeyDictionary[Any, _Instruments] = WeakKeyDictionary()
