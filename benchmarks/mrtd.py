"""MRTD of the recipe's firmware, in both page orders, against plain SHA-384 over as many bytes."""

import hashlib
from functools import partial

from benchmarks.pace import Pace, measure_pace
from benchmarks.report import Aim, Report
from benchmarks.workplace import Setting, packaged_file
from builder.backends.local_store import LocalStore
from builder.inside.packages import Spool, unpack_packages
from builder.measure import PageOrder, mrtd_for, mrtd_stream_length, parse_tdvf
from builder.pipeline.inputs import load_locked_recipe

_TURNS = 51
_LIMIT = 1.5


def run(setting: Setting) -> Report:
    """Hash in turns. What is hashed for comparison is the firmware itself, over and over, in one call."""
    firmware = _firmware(setting)
    length = mrtd_stream_length(parse_tdvf(firmware))
    stream = (firmware * (length // len(firmware) + 1))[:length]
    plain = Pace("hashlib.sha384", lambda: hashlib.sha384(stream).digest())
    orders = [Pace(f"mrtd_for, {order}", partial(mrtd_for, firmware, order)) for order in PageOrder]
    rows = measure_pace(plain, orders, size=length, turns=_TURNS)
    return Report(rows, [Aim(f"{row.name}, ratio", row.values["ratio"], _LIMIT) for row in rows[1:]])


def _firmware(setting: Setting) -> bytes:
    """The firmware as a leg takes it out of its packages."""
    directory = load_locked_recipe(setting.recipe)
    store = LocalStore(setting.store)
    paths = [store.path(package.sha256) for package in directory.lock.group("components.firmware")]
    tree = unpack_packages([str(path) for path in paths], Spool())
    return tree.file(packaged_file(directory.recipe.firmware), what="packages")[-1].read()
