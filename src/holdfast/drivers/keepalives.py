"""Keepalives of the drivers that speak over a wire: what finds a peer that vanished.

Without keepalives a connection whose other end vanished (a firewall that forgot it, a machine that
lost its power) is found after two hours, and one with data on its way after about fifteen minutes.
The settings have libpq's names and are given to every driver, so a URL says them once:
``?keepalives_idle=10&tcp_user_timeout=5000``, ``?keepalives=0`` for none.

Rule: no driver library is imported here.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

DEFAULTS = {
    "keepalives": 1,
    "keepalives_idle": 30,  # seconds of silence before the first probe
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds that sent data may stay unacknowledged
}
_OPTIONS = {
    "keepalives_idle": ("TCP_KEEPIDLE", "TCP_KEEPALIVE"),
    "keepalives_interval": ("TCP_KEEPINTVL",),
    "keepalives_count": ("TCP_KEEPCNT",),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT",),
}


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give libpq's arguments for keepalives that were not given."""
    return {name: value for name, value in DEFAULTS.items() if name not in given}


def apply(sock: Any, given: Mapping[str, int]) -> None:
    """Do to a socket what libpq does with these settings; what the system does not know is left out."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    settings = DEFAULTS | dict(given)
    # Said either way: PyMySQL and asyncmy turn it on themselves.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1 if settings["keepalives"] else 0)
    for name, options in _OPTIONS.items():
        if not settings[name] or (name != "tcp_user_timeout" and not settings["keepalives"]):
            continue  # 0 leaves the system's own
        option = next((getattr(socket, one) for one in options if hasattr(socket, one)), None)
        if option is not None:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, settings[name])
