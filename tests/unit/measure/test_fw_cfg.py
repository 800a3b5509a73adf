"""The fw_cfg items of a direct boot, in their order."""

import pytest

from builder.measure.firmware.fw_cfg import fw_cfg_events
from builder.model.event import EV_PLATFORM_CONFIG_FLAGS, PredictedEvent, UnpredictedEvent
from builder.model.recipe import VmmSpec

# `measurement.md` 5.11: of a real log
BOOT_MENU = "1dd6f7b457ad880d840d41c961283bab688e94e4b59359ea45686581e90feccea3c624b1226113f824f315eb60ae0a7c"
BOOT_ORDER = "53d3dbc00691328371e74c1b1c77bdf1bf4ff79dd1b55222b694fe8341cd8b0adb3a9ab9286552c681272883b9b0fc1d"


def vmm(*devices: str, machine: str = "q35,smm=off,pic=off") -> VmmSpec:
    return VmmSpec("qemu", "10.2.1", machine, "cpu", devices)


def digests(spec: VmmSpec | None) -> dict[str, str | None]:
    events = fw_cfg_events(spec)
    assert {(event.register, event.event_type) for event in events} == {("rtmr0", EV_PLATFORM_CONFIG_FLAGS)}
    return {event.name: event.digest if isinstance(event, PredictedEvent) else None for event in events}


def test_a_plain_machine_has_the_items_of_a_real_log() -> None:
    for spec in (None, vmm(), vmm("virtio-net-pci,netdev=n", "virtio-blk-pci,drive=d")):
        assert list(digests(spec).items()) == [("BootMenu", BOOT_MENU), ("bootorder", BOOT_ORDER)]


@pytest.mark.parametrize("kind", ["pxb", "pxb-pcie", "pxb-cxl"])
def test_expander_bridges_are_counted_first_of_all(kind: str) -> None:
    one, two = digests(vmm(f"{kind},id=a")), digests(vmm(f"{kind},id=a", "pcie-root-port", f"{kind},id=b"))
    assert list(one) == list(two) == ["etc/extra-pci-roots", "BootMenu", "bootorder"]
    assert one["etc/extra-pci-roots"] != two["etc/extra-pci-roots"]
    assert "etc/extra-pci-roots" not in digests(vmm("pxbx", "virtio-blk-pci,id=pxb"))


def test_a_device_with_a_boot_index_leaves_the_order_open() -> None:
    found = digests(vmm("virtio-blk-pci,drive=d,bootindex=1"))
    assert found == {"BootMenu": BOOT_MENU, "bootorder": None}


@pytest.mark.parametrize("machine", ["q35,cxl=on", "q35,sgx-epc.0.memdev=m", "q35,cxl-fmw.0.size=4G"])
def test_memory_besides_the_ram_is_named_and_not_guessed(machine: str) -> None:
    events = fw_cfg_events(vmm(machine=machine))
    assert [event.name for event in events] == ["BootMenu", "etc/reserved-memory-end", "bootorder"]
    assert isinstance(events[1], UnpredictedEvent)
