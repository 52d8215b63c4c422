"""Flower: messages that are a fraction of the size, in two lines of an app.

In the ClientApp::

    app = ClientApp(mods=[fedpress.flower.codec_mod()])

In the ServerApp::

    strategy = fedpress.flower.Compressed(FedAvg())
"""

from __future__ import annotations

from fedpress.flower.chain import Deltas
from fedpress.flower.client import codec_mod
from fedpress.flower.errors import NoUsableReplyError, ProtocolError, ReplyError
from fedpress.flower.records import arrays_of, record_of
from fedpress.flower.report import Report
from fedpress.flower.strategy import Compressed

__all__ = [
    "Compressed",
    "Deltas",
    "NoUsableReplyError",
    "ProtocolError",
    "ReplyError",
    "Report",
    "arrays_of",
    "codec_mod",
    "record_of",
]
