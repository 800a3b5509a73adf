"""How VMM options become a machine: places of devices, the 64-bit window, refusals (`acpi.md` 2, 7, 11.1)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.acpi.aml_resources import bus_numbers, dword_memory, qword_memory
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import AcpiMachine, AcpiProfile, Expander, PciFunction, acpi_machine, dstack_machine
from builder.model.recipe import VmmSpec

GIB = 1 << 30
WINDOW = 0x380000000000
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "Skylake-Server,phys-bits=46", ("virtio-rng-pci",))


def machine(*devices: str, memory: int = 2 * GIB, edk2: str = "202502", vmm: VmmSpec = VMM) -> AcpiMachine:
    return acpi_machine(replace(vmm, devices=devices or vmm.devices), vcpus=1, memory=memory, edk2=edk2)


def places(*devices: str) -> list[int]:
    return [function.devfn for function in machine(*devices).functions]


def test_devices_take_the_first_free_slot_in_order() -> None:
    assert places("virtio-rng-pci", "virtio-net-pci", "virtio-blk-pci,drive=a") == [0x08, 0x10, 0x18]
    assert places("virtio-rng-pci,addr=2", "e1000", "e1000") == [0x10, 0x08, 0x18]
    assert places("virtio-rng-pci", "virtio-net-pci,addr=1f.1") == [0x08, 0xF9]


@pytest.mark.parametrize(
    ("address", "devfn"), [("2", 0x10), ("0x2", 0x10), ("10", 0x80), ("0x1e", 0xF0), ("2.0", 0x10), ("0x3.0x0", 0x18)]
)
def test_addresses_are_hexadecimal(address: str, devfn: int) -> None:
    assert places(f"virtio-rng-pci,addr={address}") == [devfn]


def test_a_slot_can_have_several_functions() -> None:
    devices = ("virtio-rng-pci,addr=4.0,multifunction=on", "virtio-net-pci,addr=4.5", "virtio-net-pci")
    assert places(*devices) == [0x20, 0x25, 0x08]


def test_devices_behind_root_ports_take_no_slot() -> None:
    devices = ("virtio-rng-pci", "pcie-root-port,id=a,chassis=1", "virtio-net-pci,bus=a", "virtio-net-pci,bus=pcie.0")
    assert machine(*devices).functions == (PciFunction(0x08), PciFunction(0x10, (0,)), PciFunction(0x18))
    assert machine(*devices[:2]).functions[1] == PciFunction(0x10, ()), "an empty port"


def test_functions_behind_a_port_are_known_by_place() -> None:
    behind = ("virtio-net-pci,bus=a,addr=0.0,multifunction=on", "virtio-rng-pci,bus=a,addr=0.3")
    assert machine("pcie-root-port,id=a", *behind).functions == (PciFunction(0x08, (0, 3)),)
    assert machine("pcie-root-port,id=a", *behind[::-1]).functions == (PciFunction(0x08, (0, 3)),)


def test_devices_of_other_buses_take_no_slot() -> None:
    assert places("virtio-scsi-pci", "scsi-hd,drive=a", "virtio-serial-pci", "virtconsole", "ide-cd") == [0x08, 0x10]


def test_the_serial_port_takes_no_slot() -> None:
    assert machine("serial", "virtio-rng-pci").serial
    assert places("serial", "virtio-rng-pci") == [0x08]
    assert not machine("virtio-rng-pci").serial


def test_machine_options_are_followed() -> None:
    options = machine(vmm=replace(VMM, machine="q35,accel=kvm,kernel_irqchip=split,smm=on,pic=on"))
    assert (options.smm, options.pic, options.hpet) == (True, True, True), "QEMU has an HPET unless told otherwise"
    options = machine(vmm=replace(VMM, bridge_hotplug=False, numa_nodes=1, version="9.2.1"))
    assert (options.smm, options.pic, options.hpet, options.hotplug) == (False, False, False, False)
    assert (options.numa_nodes, options.profile) == (1, AcpiProfile.P92)


def test_the_alias_of_the_machine_is_the_kind_of_its_release() -> None:
    named = replace(VMM, machine=VMM.machine.replace("q35", "pc-q35-10.0"))
    assert machine(vmm=named) == machine()


@pytest.mark.parametrize(
    "cpu", ["host,phys-bits=46", "SapphireRapids-v3,-avx512f,phys-bits=46", "Icelake-Server,phys-bits=46"]
)
def test_models_of_tdx_hosts_make_the_same_machine(cpu: str) -> None:
    assert machine(vmm=replace(VMM, cpu=cpu)) == machine()


@pytest.mark.parametrize(("edk2", "base"), [("202211", 0xB0000000), ("202302", 0xB0000000), ("202305", 0xE0000000)])
def test_mmconfig_is_where_the_release_of_the_firmware_puts_it(edk2: str, base: int) -> None:
    assert machine(edk2=edk2).mmconfig == base


@pytest.mark.parametrize(
    ("devices", "window"),
    [
        (("virtio-rng-pci",), (WINDOW, 32 * GIB)),
        (("e1000", "virtio-rng-pci"), (WINDOW, 32 * GIB)),
        (("e1000",), (4 * GIB, 32 * GIB)),
        (("serial",), (4 * GIB, 32 * GIB)),
        (("pcie-root-port,id=a",), (WINDOW, 32 * GIB)),
        (("pcie-root-port,id=a", "virtio-rng-pci,bus=a"), (WINDOW, 32 * GIB)),
        (("pcie-root-port,id=a", "virtio-rng-pci"), (WINDOW, 32 * GIB + 0x4000)),
        (("pcie-root-port,id=a", "pcie-root-port", *["virtio-rng-pci"] * 3), (WINDOW, 64 * GIB + 0xC000)),
    ],
)
def test_the_window_holds_what_the_firmware_puts_there(devices: tuple[str, ...], window: tuple[int, int]) -> None:
    found = machine(*devices)
    assert (found.window_base, found.window_size) == window


@pytest.mark.parametrize(
    ("memory", "base"), [(2815 << 20, 4 * GIB), (2816 << 20, 5 * GIB), (3 * GIB, 5 * GIB), (64 * GIB, 66 * GIB)]
)
def test_without_64_bit_bars_the_window_follows_the_memory(memory: int, base: int) -> None:
    assert machine("e1000", memory=memory).window_base == base
    assert machine("virtio-rng-pci", memory=memory).window_base == WINDOW


@pytest.mark.parametrize(("hole", "size"), [(1 << 44, 1 << 44), (33 * GIB + 1, 34 * GIB), (GIB, GIB)])
def test_the_hole_is_the_least_size_of_the_window_in_whole_gib(hole: int, size: int) -> None:
    assert machine(vmm=replace(VMM, pci_hole64=hole)).window_size == size
    ports = machine("pcie-root-port", "virtio-rng-pci", vmm=replace(VMM, pci_hole64=hole))
    assert ports.window_size == max(size, 32 * GIB + 0x4000)


def test_dstack_machine_is_the_same_from_options_and_from_counts() -> None:
    devices = ("virtio-blk-pci", "virtio-blk-pci", "virtio-net-pci", "vhost-vsock-pci", "virtio-9p-pci")
    options = machine(*devices, "virtio-blk-pci", "serial")
    counts = dstack_machine("10.0.2", vcpus=1, memory=2 * GIB, verity_volumes=1)
    assert options == counts


def test_a_passed_through_device_needs_a_stated_hole_and_a_device_with_a_known_bar() -> None:
    devices = ("virtio-rng-pci", "pcie-root-port,id=a", "vfio-pci,host=01:00.0,bus=a")
    large = replace(VMM, pci_hole64=1 << 44)
    assert machine(*devices, vmm=large).functions == (PciFunction(0x08), PciFunction(0x10, (0,)))
    assert machine(*devices, vmm=large).window_size == 1 << 44
    small = replace(VMM, pci_hole64=(1 << 43) - GIB)
    for vmm, some in ((VMM, devices), (small, devices), (large, ("vfio-pci", "e1000"))):
        with pytest.raises(DocumentError, match="BAR"):
            machine(*some, vmm=vmm)


# one root bus more, with two ports behind it, one of them empty
EXPANDED = (
    "virtio-rng-pci",
    "pxb-pcie,id=x,bus_nr=5,addr=10",
    "pcie-root-port,id=a,chassis=1,bus=x",
    "virtio-rng-pci,bus=a",
    "pcie-root-port,id=b,chassis=2,bus=x",
)


def test_an_expander_has_the_buses_and_windows_that_the_firmware_gives_it() -> None:
    found = machine(*EXPANDED)
    assert found.functions == (PciFunction(0x08),), "what is behind an expander is not on pcie.0"
    # as QEMU 10.0.2 and 11.1.3 show them: two ports of 2 MiB and 32 GiB with a BAR of 4 KiB each, after bus 0
    windows = ((0x80200000, 0x80601FFF), (0x380800000000, 0x3817FFFFFFFF))
    assert found.expanders == (Expander(0x80, 5, None, 7, windows, ports=2),)
    assert (found.window_base, found.window_size) == (WINDOW, 32 * GIB)
    assert found.bridges_programmed


def test_ports_behind_a_younger_expander_take_numbers_for_hotplug_and_behind_an_older_one_do_not_show() -> None:
    """As QEMU 10.0.2 and 11.1.3 show them."""
    ports = ("pcie-root-port,id=c,chassis=3,bus=pcie.0", "pcie-root-port,id=d,chassis=4,bus=pcie.0")
    expander = EXPANDED[1:]

    def numbers(*devices: str) -> list[int]:
        return [number for number, _ in machine("virtio-rng-pci,bus=pcie.0", *devices).numbered_ports]

    assert numbers(*ports) == [0, 1]
    assert numbers(*expander, *ports) == [0, 1]
    assert numbers(*ports, *expander) == [2, 3]
    assert numbers(ports[0], *expander, ports[1]) == [0, 3]


def test_pcie_0_keeps_what_expanders_do_not_get() -> None:
    tables = generate_acpi(machine(*EXPANDED)).tables
    for first, last in ((0x80000000, 0x801FFFFF), (0x80602000, 0xDFFFFFFF), (0xF0000000, 0xFEBFFFFF)):
        assert tables.count(dword_memory(first, last, cacheable=False)) == 1
    assert tables.count(qword_memory(WINDOW, 0x3807FFFFFFFF, cacheable=True)) == 1
    assert tables.count(bus_numbers(0, 4)) == 1
    assert tables.count(bus_numbers(5, 7)) == 1


def test_a_small_hole_ends_where_an_expander_begins() -> None:
    """QEMU cuts what is given away out of the window, and takes what is before it whole."""
    tables = generate_acpi(machine(*EXPANDED, vmm=replace(VMM, pci_hole64=GIB))).tables
    assert tables.count(qword_memory(WINDOW, 0x3807FFFFFFFF, cacheable=True)) == 1


def test_ports_without_a_bus_go_to_the_newest_expander() -> None:
    stated = [*EXPANDED, "pxb-pcie,id=y,bus_nr=0x20,bus=pcie.0", "pcie-root-port,id=c,chassis=3,bus=y"]
    assert machine(*stated) == machine(*(device.removesuffix(",bus=y") for device in stated))
    assert [expander.last_bus for expander in machine(*stated).expanders] == [7, 0x21]


REFUSED_EXPANDERS = {
    "an empty one": (EXPANDED[:2], "no root port behind it"),
    "another device beside its ports": ((*EXPANDED, "virtio-rng-pci,bus=x"), "beside the root ports"),
    "a device without a bus": ((*EXPANDED, "virtio-rng-pci"), "beside the root ports"),
    "an expander behind it": ((*EXPANDED, "pxb-pcie,id=y,bus_nr=9"), "a bridge behind a bridge"),
    "an I/O port behind it": ((*EXPANDED, "e1000,bus=b"), "I/O ports"),
    "an old device behind it": ((*EXPANDED, "virtio-net-pci-transitional,bus=b"), "I/O ports"),
    "a device with unknown BARs": ((*EXPANDED, "vfio-pci,bus=b"), "BARs are not known"),
    "queues": ((*EXPANDED, "virtio-net-pci,bus=b,num-queues=64"), "queues"),
    "vectors": ((*EXPANDED, "virtio-net-pci,bus=pcie.0,vectors=300"), "vectors"),
    "no bus number": (("pxb-pcie,id=x", "pcie-root-port,bus=x"), "bus_nr=''"),
    "bus number 0": (("pxb-pcie,id=x,bus_nr=0", "pcie-root-port,bus=x"), "one with 0"),
    "an octal bus number": (("pxb-pcie,id=x,bus_nr=010", "pcie-root-port,bus=x"), "bus_nr='010'"),
    "a bus number too large": (("pxb-pcie,id=x,bus_nr=256", "pcie-root-port,bus=x"), "bus_nr='256'"),
    "a bus number twice": ((*EXPANDED, "pxb-pcie,id=y,bus_nr=5,bus=pcie.0", "pcie-root-port"), "same bus number"),
    "buses that meet": ((*EXPANDED, "pxb-pcie,id=y,bus_nr=7,bus=pcie.0", "pcie-root-port"), "would reach 7"),
    "buses after the last": (("pxb-pcie,id=x,bus_nr=255", "pcie-root-port,bus=x"), "would reach 256"),
    "ports of pcie.0 that meet it": ((*["pcie-root-port"] * 5, *EXPANDED), "would reach 5"),
    "a node without NUMA": (("pxb-pcie,id=x,bus_nr=5,numa_node=0", "pcie-root-port,bus=x"), "NUMA node"),
    "an unknown property": (("pxb-pcie,id=x,bus_nr=5,bypass_iommu=on", "pcie-root-port"), "bypass_iommu"),
}


@pytest.mark.parametrize("name", REFUSED_EXPANDERS)
def test_an_expander_that_is_not_certain_is_refused_with_the_next_step(name: str) -> None:
    devices, reason = REFUSED_EXPANDERS[name]
    with pytest.raises(DocumentError, match=reason) as caught:
        machine(*devices, vmm=replace(VMM, pci_hole64=1 << 44))
    assert caught.value.hint


@pytest.mark.parametrize(("vcpus", "edk2"), [(65, "202502"), (1, "202305")])
def test_an_expander_with_many_vcpus_or_older_firmware_is_refused(vcpus: int, edk2: str) -> None:
    vmm = replace(VMM, devices=EXPANDED)
    assert acpi_machine(vmm, vcpus=64, memory=2 * GIB, edk2="202308").expanders
    with pytest.raises(DocumentError, match="not certain"):
        acpi_machine(vmm, vcpus=vcpus, memory=2 * GIB, edk2=edk2)


REFUSED_DEVICES = {
    "a TPM": (("tpm-crb,tpmdev=t",), "tpm-crb"),
    "a VM generation ID": (("vmgenid",), "vmgenid"),
    "an NVDIMM": (("nvdimm,memdev=m",), "nvdimm"),
    "an IOMMU": (("intel-iommu",), "intel-iommu"),
    "a VIOT": (("virtio-iommu-pci",), "virtio-iommu-pci"),
    "memory": (("virtio-mem-pci",), "virtio-mem-pci"),
    "a VGA": (("VGA",), "VGA"),
    "a panic device": (("pvpanic",), "pvpanic"),
    "another bridge": (("pcie-pci-bridge,id=b",), "pcie-pci-bridge"),
    "an unknown kind": (("virtio-rng",), "'virtio-rng'"),
    "no kind": (("",), "''"),
    "JSON": (('{"driver":"virtio-rng-pci"}',), "driver"),
    "a bare property": (("virtio-rng-pci,multifunction",), "not a list"),
    "a property twice": (("virtio-rng-pci,addr=2,addr=3",), "not a list"),
    "an escaped comma": (("virtio-blk-pci,serial=a,,b",), "not a list"),
    "an index": (("virtio-net-pci,acpi-index=1",), "acpi-index"),
    "a hidden device": (("virtio-net-pci,failover_pair_id=a",), "failover_pair_id"),
    "other BARs": (("virtio-net-pci,page-per-vq=on",), "page-per-vq"),
    "no BAR": (("virtio-net-pci,disable-modern=on",), "disable-modern"),
    "no such place": (("virtio-rng-pci,addr=20",), "no place"),
    "no such function": (("virtio-rng-pci,addr=1.8",), "no place"),
    "no address": (("virtio-rng-pci,addr=",), "no place"),
    "digits of another script": (("virtio-rng-pci,addr=\u0662",), "no place"),
    "the chipset's place": (("virtio-rng-pci,addr=1f",), "taken"),
    "the host bridge's place": (("virtio-rng-pci,addr=0",), "taken"),
    "a taken place": (("virtio-rng-pci,addr=2", "virtio-rng-pci,addr=2"), "taken"),
    "no function 0": (("virtio-rng-pci,addr=2.1",), "function 0"),
    "a single function 0": (("virtio-rng-pci,addr=2", "virtio-rng-pci,addr=2.1"), "function 0"),
    "a strange switch": (("virtio-rng-pci,multifunction=maybe",), "multifunction=maybe"),
    "an unknown bus": (("virtio-rng-pci,bus=pci.0",), "bus 'pci.0'"),
    "a bus that comes later": (("virtio-rng-pci,bus=a", "pcie-root-port,id=a"), "bus 'a'"),
    "a second slot behind a port": (("pcie-root-port,id=a", "e1000,bus=a", "e1000,bus=a"), "no free slot"),
    "a slot that a port does not have": (("pcie-root-port,id=a", "e1000,bus=a,addr=1"), "does not exist"),
    "an id twice": (("pcie-root-port,id=a", "e1000,id=a"), "'a' is used twice"),
    "the root bus's name": (("pcie-root-port,id=pcie.0", "e1000,bus=pcie.0"), "pcie.0"),
    "a port behind a port": (("pcie-root-port,id=a", "pcie-root-port,bus=a"), "behind a bridge"),
    "a reservation": (("pcie-root-port,pref64-reserve=1T",), "pref64-reserve"),
    "a port without hotplug": (("pcie-root-port,hotplug=off",), "hotplug"),
    "two serial ports": (("serial", "serial"), "2 serial ports"),
    "a full bus": (("virtio-rng-pci",) * 31, "no free slot"),
    "too many devices": (("virtio-rng-pci",) * 27, "more than 26"),
    "very many devices": (("ide-cd",) * 513, "513 devices"),
}


@pytest.mark.parametrize("name", REFUSED_DEVICES)
def test_a_device_that_is_not_certain_is_refused_with_the_next_step(name: str) -> None:
    devices, reason = REFUSED_DEVICES[name]
    with pytest.raises(DocumentError, match=reason) as caught:
        machine(*devices)
    assert caught.value.hint


REFUSED_OPTIONS = {
    "another VMM": (replace(VMM, name="cloud-hypervisor"), "cloud-hypervisor"),
    "an old version": (replace(VMM, version="7.2.22"), "7.2.22"),
    "another machine": (replace(VMM, machine="pc,smm=off,pic=off"), "not the q35 of QEMU 10.0.2"),
    "an older machine": (replace(VMM, machine="pc-q35-9.2,smm=off,pic=off"), "not the q35 of QEMU 10.0.2"),
    "a newer machine": (replace(VMM, machine="pc-q35-10.1,smm=off,pic=off"), "not the q35 of QEMU 10.0.2"),
    "pic not stated": (replace(VMM, machine="q35,smm=off"), "leaves pic"),
    "smm not stated": (replace(VMM, machine="q35,pic=off"), "leaves smm"),
    "auto": (replace(VMM, machine="q35,smm=auto,pic=off"), "smm=auto"),
    "a switch without value": (replace(VMM, machine="q35,smm=off,pic=off,hpet"), "hpet="),
    "no ACPI": (replace(VMM, machine="q35,smm=off,pic=off,acpi=off"), "acpi=off"),
    "NVDIMM": (replace(VMM, machine="q35,smm=off,pic=off,nvdimm=on"), "nvdimm=on"),
    "an unknown option": (replace(VMM, machine="q35,smm=off,pic=off,max-ram-below-4g=1G"), "max-ram-below-4g"),
    "no phys-bits": (replace(VMM, cpu="Skylake-Server"), "46 physical address bits"),
    "other phys-bits": (replace(VMM, cpu="Skylake-Server,phys-bits=52"), "46 physical address bits"),
    "an AMD model": (replace(VMM, cpu="EPYC,phys-bits=46"), "Intel"),
    "a model without large pages": (replace(VMM, cpu="Skylake-Client,phys-bits=46"), "Intel, with pages"),
    "another vendor": (replace(VMM, cpu="Skylake-Server,phys-bits=46,vendor=AuthenticAMD"), "decides"),
    "no large pages": (replace(VMM, cpu="Skylake-Server,phys-bits=46,pdpe1gb=off"), "decides"),
    "phys-bits twice": (replace(VMM, cpu="Skylake-Server,phys-bits=46,phys-bits=52"), "decides"),
    "the host's phys-bits": (replace(VMM, cpu="host,phys-bits=46,host-phys-bits=on"), "decides"),
    "QEMU's own model": (replace(VMM, cpu="qemu64,phys-bits=46"), "Intel"),
    "an empty hole": (replace(VMM, pci_hole64=0), "hole of 0 bytes"),
    "too many nodes": (replace(VMM, numa_nodes=2), "shared evenly"),
}


@pytest.mark.parametrize("name", REFUSED_OPTIONS)
def test_an_option_that_is_not_certain_is_refused_with_the_next_step(name: str) -> None:
    vmm, reason = REFUSED_OPTIONS[name]
    with pytest.raises(DocumentError, match=reason) as caught:
        machine(vmm=vmm)
    assert caught.value.hint


@pytest.mark.parametrize("edk2", ["", "2025", "202513", "202208", "stable202502", "20250\u0662", "2025021"])
def test_a_firmware_release_without_a_rule_is_refused(edk2: str) -> None:
    with pytest.raises(DocumentError, match="edk2"):
        machine(edk2=edk2)


def test_memory_that_is_no_whole_mib_is_refused() -> None:
    with pytest.raises(DocumentError, match="whole number"):
        machine(memory=2 * GIB + 1)


@given(
    text=st.text(max_size=40) | st.from_regex(r"(virtio-rng-pci|pcie-root-port|e1000)(,[a-z]{1,9}=[0-9a-fx.]{1,5})*")
)
def test_any_text_as_a_device_is_a_machine_or_a_refusal(text: str) -> None:
    try:
        found = machine("virtio-rng-pci", text)
    except DocumentError as error:
        assert error.hint
    else:
        assert generate_acpi(found)


@pytest.mark.parametrize(
    ("memory", "hole"), [(2 * GIB, 1 << 47), (1 << 46, None), (57 << 40, None), (40 << 40, 32 << 40)], ids=str
)
def test_what_does_not_fit_into_46_address_bits_is_refused(memory: int, hole: int | None) -> None:
    with pytest.raises(DocumentError, match="address bits|64-bit PCI window"):
        machine(memory=memory, vmm=replace(VMM, pci_hole64=hole))


def test_a_hole_that_ends_at_the_last_address_bit_is_none_too_many() -> None:
    assert machine(memory=2 * GIB, vmm=replace(VMM, pci_hole64=1 << 44)).window_size == 1 << 44
