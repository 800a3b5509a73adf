"""MRTD, TD HOB, variables, ACPI and RTMR[0] against published values and real TDs (`measurement.md` 3 to 5)."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.measure import (
    AcpiBlobs,
    AcpiDigests,
    BootFiles,
    CcMeasurement,
    KernelForm,
    Measurer,
    PageOrder,
    SecureBootVariable,
    TdvfMetadata,
    authenticode_digest,
    blobs_for,
    cc_measurement_of,
    check_acpi,
    encode_load_options,
    first_difference,
    launch_profiles,
    mrtd_for,
    parse_ccel,
    parse_quote,
    parse_tdvf,
    replay,
    td_hob_list,
)
from builder.measure.direct_boot import Events, rtmr0_events
from builder.measure.efi_variables import boot_variable_digest, boot_variables, secure_boot_variables, variable_digest
from builder.measure.profile import firmware_rules
from builder.measure.tdvf import SectionType, TdvfSection
from builder.model.digest import sha384_hex
from builder.model.launch_profile import BootOptions, InitrdArgument
from builder.model.recipe import VmmSpec
from tests.fakes.boot_files import bzimage

VIRTEE = "firmware/virtee_OVMF.inteltdx.fd"
MIB = 1 << 20

# `measurement.md` 3.4: SHA-256 of the file -> single pass, two pass; three independent programs agree
MRTD = {
    "7b456907dd0786d415999e801a1ac4637b8ed4d7cf5378cfc6edbe5e574dd773": (  # Debian 12
        "4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057fb887fed0744d5631a212967fb231c47",
        "acccbcc870a381adab0d3919d90a7f268ac3b0364771f202ed4bb4e892d045b33db3b32e6924cba830a724eed443f7e1",
    ),
    "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db": (  # Debian 13
        "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11",
        "456f07902150d008bb913c3e1e84e9297f735a6c83cd2a957a1f0a8bbedb06df188e3837ae48d32c73d473d097dc0db2",
    ),
    "11fe83527f079a4d8e25bca4fe66ea0bfd0cc4bda7ed462bf1d9f6fa6d181244": (  # virtee
        "88c63708f207ab01a46b4d9424ea92ab11f8826be30d208afbb58f174f2a19cdcfafb2b12a6a2c98be0740b808894d55",
        "307c9a6831bdd6e6f56d9305f9598d238d42e864a9144f11c0a46ee42e62ed81eb9845511a80fa77b200743d85d977e3",
    ),
}

# `measurement.md` 5.3: empty variable stores
EMPTY_STORE_4M = "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790"
EMPTY_STORE_2M = "f87302177b059d54a2cf0c5f13340dbabf5c9dd60dc3f996c68b776fbe4de959769443a3d8ef6538b97d7e151c8298e8"


def layout(address: int, size: int) -> TdvfMetadata:
    """The HOB and TEMP_MEM sections of `measurement.md` 4.2, which differ in one range."""
    ranges = [
        (SectionType.TEMP_MEM, address, size),
        (SectionType.TEMP_MEM, 0x80B000, 0x2000),
        (SectionType.TD_HOB, 0x809000, 0x2000),
        (SectionType.TEMP_MEM, 0x800000, 0x6000),
    ]
    return TdvfMetadata(
        tuple(TdvfSection(kind, 0, 0, start, length, extends=False, augments=False) for kind, start, length in ranges)
    )


S2, S = layout(0x810000, 0x10000), layout(0x811000, 0xF000)


def known_mrtd(firmware: bytes) -> tuple[str, str]:
    digest = hashlib.sha256(firmware).hexdigest()
    if digest not in MRTD:
        pytest.skip(f"no published MRTD for the firmware with SHA-256 {digest}")
    return MRTD[digest]


def test_mrtd_of_the_vectors_firmware(vectors: Path) -> None:
    firmware = (vectors / VIRTEE).read_bytes()
    found = tuple(mrtd_for(firmware, order).hex() for order in (PageOrder.SINGLE_PASS, PageOrder.TWO_PASS))
    assert found == known_mrtd(firmware)


def test_mrtd_of_debians_firmware(debian_ovmf: bytes) -> None:
    found = tuple(mrtd_for(debian_ovmf, order).hex() for order in (PageOrder.SINGLE_PASS, PageOrder.TWO_PASS))
    assert found == known_mrtd(debian_ovmf)


def test_the_published_mrtds_are_those_of_the_vectors(vectors: Path) -> None:
    document = json.loads((vectors / "expected_registers.json").read_text())
    for entry in document["firmware_mrtd"].values():
        assert MRTD[entry["sha256"]] == (entry["single_pass"], entry["two_pass"])


def test_a_firmware_for_tdx_has_the_measuring_driver(vectors: Path) -> None:
    assert cc_measurement_of((vectors / VIRTEE).read_bytes()) is CcMeasurement.PRESENT


def test_debian_12s_firmware_has_no_measuring_driver_and_the_profile_says_so(debian_ovmf: bytes) -> None:
    known_mrtd(debian_ovmf)
    if hashlib.sha256(debian_ovmf).hexdigest() != next(iter(MRTD)):
        pytest.skip("the firmware is not Debian 12's")
    files = BootFiles(debian_ovmf, bzimage(), None, "")
    vmm = VmmSpec("qemu", "7.2.22", "q35", "cpu", ())
    (profile,) = launch_profiles(files, vmm=vmm, edk2="202211", shapes=[(1, 1024 * MIB)])
    assert profile.firmware.cc_measurement is CcMeasurement.ABSENT
    assert profile.firmware.secure_boot_variable is SecureBootVariable.DISABLED
    assert "cc_measurement_absent" in profile.caveats
    registers = Measurer(files).predict(profile, AcpiDigests(*("ab" * 48,) * 3)).registers
    assert "00" * 48 not in (registers.rtmr0, registers.rtmr1, registers.rtmr2)


# `measurement.md` 4.3: MiB -> SHA-384
HOBS_S2 = {
    1024: "1055c9b9a1fc534e688560e2304e18c8597b7261818cf61fb163d40c130547309b750575947a4dcaedbdce4b8d0535f2",
    2048: "0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749",
    2815: "51d4fd91da99cc87d6826bd6177fe8c74790b01b6a315d7ca2639d9d1df9e7835a2251b8e69ecef132b6b0302040f25e",
    2816: "8eb1a02074362aa0761541cdb4dc3f1788dfeb4538803b241477848e26de294dbe917ab56c5628732679b3abc168c2de",
    4096: "5b684faf8d02a733945f821d9cdd170802e72103977acf66949c9382500283adc90cbec57f8e7653f8bee1cab83689de",
    8192: "2e070cda358b5aa00f27cca25c47381bb564f4be3a84d059805a73cbbde764ed8341f7e09915b5e7b370f9c08a743fbd",
    10240: "05dc148f05a035080b22372d049c35ef80260050516606b4d9d4eaa2e4d1e06c556374b00217496a235235d1e3d0e026",
    16384: "cd2312a0d87ef3c4a928df87088969a80b33d7bf3fc584bdde637b09ed808a8d821a56b78a13a6eb506db7578444abbe",
    32768: "5fe4f9ee465a361d077a6892f6bc4d19a82b272fea2e3c2c1ef9c33b4d9050115fca0c6dc7a7f68f91c623de38c48226",
    65536: "8ae1e425351df7992c444586eff99d35af3b779aa2b0e981cb4b73bc5b279f2ade19b6a62a203fc3c3bbdaae80af596d",
    131072: "6de3065bc65fbb7c276ce585eb0bcad5e8bd57065d3a0db4c376f7c8960066759ea388f52a95f4a653469cf353b2fef1",
    262144: "53463ae04b471637983d15f9f41780859a60e70595e56be96bc69acf6efc3174a3fa258b5da897785cad4ca8fcb8a723",
    524288: "0556aa624e8c4a5c4eb3f1db910fe0ee6bc0790a1509b79b2a92271bb6e6670aa922b5784ec87f6a265d809f44ead94a",
    1048576: "d6d8d853b6454f838d98c5573d6a098cffc51902151aea2c6a384cf1e1a27d10f9a65cf4504dd94e96c6079438d062f1",
}
HOBS_S = {
    1024: "2b630fa1d8fa9b6e8c6507d2256803ed227888f7d1f62ca5cfbddfe495338b1c6a0fc339ea64700f0835c0897a662789",
    2048: "0e35f1b315ba6c912cf791e5c79dd9d3a2b8704516aa27d4e5aa78fb09ede04aef2bbd02ac7a8734c48562b9c26ba35d",
    2815: "401647c04de8a94d8a34e9a1aa66339bff0fb0471b10634e7b464cd076613e77e589fde0cc133d9acbce711de7f1a58b",
    2816: "3d4bd514230f69783c7318328fb67e634a5e765235761ca199ff128ef1431b7d0140b08a659f8234e26ccf804bf22538",
    4096: "02a008e63d55a77823c04a5513a5810d4e592dc41bf2596267c09eae5d4b4e3b329ae614973fb192297d8833d37a08fd",
    8192: "68b713c6461d5af85168833c07929dcd5703a05de2ddd6c33b6c769b736aa9e73d821700b78c7afcb3b3a6430fe4a292",
    16384: "794385a0fd4ad1933f2f10bc019228fe275b82a90d9cd73a0561ba3b3cc7ecfae40b1771fd78dc19a34a094bd4a5286b",
    32768: "f34e63b721cad1074398776bf20d483c260ef780177ea1e3aaa9457b1b3cd124cc03bda1661a8afe401a4598e6e4eacb",
    65536: "519245d8b6b54b48b57143e6647d41e5e6f3b4ef10a73c95be4d9a9c0f54115b707e7af5e38f7be6852229b18573690d",
}


def td_hob(metadata: TdvfMetadata, mebibytes: int) -> str:
    return sha384_hex(td_hob_list(metadata, mebibytes * MIB))


@pytest.mark.parametrize(("mebibytes", "digest"), HOBS_S2.items())
def test_td_hob_of_layout_s2(mebibytes: int, digest: str) -> None:
    assert td_hob(S2, mebibytes) == digest


@pytest.mark.parametrize(("mebibytes", "digest"), HOBS_S.items())
def test_td_hob_of_layout_s(mebibytes: int, digest: str) -> None:
    assert td_hob(S, mebibytes) == digest


def test_td_hobs_as_another_project_publishes_them(vectors: Path) -> None:
    published = json.loads((vectors / "tdhob/oasis_subset.json").read_text())["td_hob"]
    assert len(published) == 5
    for entry in published:
        assert td_hob(S2, entry["memory_mib"]) == entry["sha384"]


def test_a_complete_td_hob_list_byte_by_byte(vectors: Path) -> None:
    assert td_hob_list(S, 1024 * MIB) == (vectors / "pairs/dstack-1cpu-1g/td_hob.bin").read_bytes()


@pytest.mark.parametrize(
    ("log", "metadata", "mebibytes"),
    [
        ("pairs/qemu-direct-2g/ccel.bin", S, 2048),
        ("pairs/dstack-1cpu-1g/ccel.bin", S, 1024),
        ("ccel/CCEL_data_ovmf", S2, 2048),
        ("ccel/CCEL_data_grub", S2, 10240),
    ],
)
def test_the_first_event_of_real_logs(vectors: Path, log: str, metadata: TdvfMetadata, mebibytes: int) -> None:
    assert parse_ccel((vectors / log).read_bytes())[0].digest == td_hob(metadata, mebibytes)


def test_the_firmware_file_has_layout_s2(vectors: Path) -> None:
    metadata = parse_tdvf((vectors / VIRTEE).read_bytes())
    assert {size: td_hob(metadata, size) for size in HOBS_S2} == HOBS_S2


def test_an_empty_variable_store_of_2_mib_firmware(vectors: Path) -> None:
    firmware = (vectors / VIRTEE).read_bytes()
    (store,) = parse_tdvf(firmware).of_type(SectionType.CFV)
    assert sha384_hex(store.data(firmware)) == EMPTY_STORE_2M


# `measurement.md` 5.4 and 5.9
VARIABLES = {
    "PK": "6f2e3cbc14f9def86980f5f66fd85e99d63e69a73014ed8a5633ce56eca5b64b692108c56110e22acadcef58c3250f1b",
    "KEK": "d607c0efb41c0d757d69bca0615c3a9ac0b1db06c557d992e906c6b7dee40e0e031640c7bfd7bcd35844ef9edeadc6f9",
    "db": "08a74f8963b337acb6c93682f934496373679dd26af1089cb4eaf0c30cf260a12e814856385ab8843e56a9acea19e127",
    "dbx": "18cc6e01f0c6ea99aa23f8a280423e94ad81d96d0aeb5180504fc0f7a40cb3619dd39bd6a95ec1680a86ed6ab0f9828d",
}
SECURE_BOOT = {
    SecureBootVariable.ABSENT: (
        "9dc3a1f80bcec915391dcda5ffbb15e7419f77eab462bbf72b42166fb70d50325e37b36f93537a863769bcf9bedae6fb"
    ),
    SecureBootVariable.DISABLED: (
        "cfa4e2c606f572627bf06d5669cc2ab1128358d27b45bc63ee9ea56ec109cfafb7194006f847a6a74b5eaed6b73332ec"
    ),
}
BOOT = {
    BootOptions.UI_APP: {
        "BootOrder": "1dd6f7b457ad880d840d41c961283bab688e94e4b59359ea45686581e90feccea3c624b1226113f824f315eb60ae0a7c",
        "Boot0000": "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298",
    },
    BootOptions.BOOT_MANAGER_MENU_APP: {
        "BootOrder": "52b9a02de946b947364b57d8210c63113b9058996e2a3ba7cead54af11ae0873b085d1e52bc01e4febe57ca05ca1332b",
        "Boot0000": "5068e6a9ded2a1c3a8ebb5d26004410ea8670742d8f444c5c3d161b76c66fa23a7b1d2fb3f9840570b675384b5818f2d",
        "Boot0001": "dd424f2eeb35f3e8a2c2f50f6cc87ff90b7577e92ce63e13a22869d07d104fd5ea9800e6e4f12c5058fc4eaa78374f20",
    },
}


@pytest.mark.parametrize("setting", SecureBootVariable)
def test_secure_boot_variables(setting: SecureBootVariable) -> None:
    found = {variable.name: variable_digest(variable).hex() for variable in secure_boot_variables(setting)}
    assert found == {"SecureBoot": SECURE_BOOT[setting], **VARIABLES}


@pytest.mark.parametrize("options", BootOptions)
def test_boot_variables(options: BootOptions) -> None:
    found = {variable.name: boot_variable_digest(variable).hex() for variable in boot_variables(options)}
    assert found == BOOT[options]


def test_load_options(vectors: Path) -> None:
    assert sha384_hex(encode_load_options("foo bar", None)) == (
        "ae062a0d46d7899081d8068d40d5035c134c77f789c7f894c4b5d92297731bbe53b41b7868edb686ba85757a9e12c5bf"
    )
    assert sha384_hex(encode_load_options("", None)).startswith("1dd6f7b457ad880d")
    (published,) = json.loads((vectors / "tdhob/oasis_subset.json").read_text())["cmdline"]
    forms = [None, InitrdArgument.SUFFIX, InitrdArgument.PREFIX]
    digests = [sha384_hex(encode_load_options(published["cmdline"], form)) for form in forms]
    assert published["sha384"] in digests


def test_authenticode_of_a_published_image(vectors: Path) -> None:
    assert authenticode_digest((vectors / "pe/td-payload.efi").read_bytes()).hex() == (
        "a319c2cd790a1792e98dacbf5fb89c498136f9f90bf988046acc9833b93e07d0407a09991b5577148435180750ff628b"
    )


def dstack_1cpu(vectors: Path) -> AcpiBlobs:
    folder = vectors / "pairs/dstack-1cpu-1g"
    return AcpiBlobs(*((folder / f"acpi_{name}.bin").read_bytes() for name in ("loader", "rsdp", "tables")))


def test_loader_and_rsdp_follow_from_the_tables(vectors: Path) -> None:
    blobs = dstack_1cpu(vectors)
    assert blobs_for(blobs.tables) == blobs
    check_acpi(blobs, 1)
    with pytest.raises(DocumentError, match="MADT lists 1 processors"):
        check_acpi(blobs, 2)


def test_acpi_digests_as_another_project_publishes_them(vectors: Path) -> None:
    """Its templates: two dwords of the DSDT depend on memory (`acpi.md` 11.3)."""
    published = json.loads((vectors / "tdhob/oasis_subset.json").read_text())["acpi"]
    assert len(published) == 6
    for entry in published:
        template = (vectors / f"acpi/oasis/template_qemu_cpu{entry['cpus']}.bin.gz").read_bytes()
        tables = bytearray(gzip.decompress(template))
        memory = entry["memory_mib"] * MIB if entry["memory_mib"] < 2816 else 0x80000000
        length_at = int.from_bytes(tables[68:72], "little") - 684
        tables[length_at - 12 : length_at - 8] = memory.to_bytes(4, "little")
        tables[length_at : length_at + 4] = (0xE0000000 - memory).to_bytes(4, "little")
        blobs = blobs_for(bytes(tables))
        check_acpi(blobs, entry["cpus"])
        assert blobs.digests() == AcpiDigests(entry["loader"], entry["rsdp"], entry["tables"])


def rtmr0(acpi: AcpiDigests, *, metadata: TdvfMetadata, mebibytes: int, edk2: str = "202502") -> Events:
    rules = firmware_rules(edk2, secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT)
    return rtmr0_events(rules, td_hob=td_hob(metadata, mebibytes), variable_store=EMPTY_STORE_4M, acpi=acpi)


def test_rtmr0_of_a_1_gib_guest_from_its_parts(vectors: Path) -> None:
    events = rtmr0(dstack_1cpu(vectors).digests(), metadata=S, mebibytes=1024)
    quote = parse_quote((vectors / "pairs/dstack-1cpu-1g/quote.bin").read_bytes())
    assert replay(events)["rtmr0"] == quote.body.rtmr0
    assert quote.body.rtmr0.startswith("274c2344116d")
    log = parse_ccel((vectors / "pairs/dstack-1cpu-1g/ccel.bin").read_bytes())
    assert first_difference(events, [event for event in log if event.register == "rtmr0"]) is None


@pytest.mark.parametrize(
    ("metadata", "mebibytes", "edk2"), [(S2, 1024, "202502"), (S, 2048, "202502"), (S, 1024, "202408")]
)
def test_rtmr0_differs_with_any_wrong_rule(vectors: Path, metadata: TdvfMetadata, mebibytes: int, edk2: str) -> None:
    events = rtmr0(dstack_1cpu(vectors).digests(), metadata=metadata, mebibytes=mebibytes, edk2=edk2)
    assert not replay(events)["rtmr0"].startswith("274c2344116d")


def test_rtmr0_of_a_live_td_from_its_tables(vectors: Path) -> None:
    """8 vCPU, 16 GiB, five devices: loader and rsdp derived, layout S, the store of an unmodified OVMF_VARS_4M.fd."""
    folder = vectors / "acpi/fortanix-runtime-capture"
    blobs = blobs_for((folder / "acpi_tables.bin").read_bytes())
    check_acpi(blobs, 8)
    expected = json.loads((folder / "expected.json").read_text())["rtmr0"]
    assert replay(rtmr0(blobs.digests(), metadata=S, mebibytes=16384))["rtmr0"] == expected


# `acpi.md` 10.1: rows whose RTMR[0] is that of a real quote or was published
ROWS = {
    "8.2.2, 1 vCPU, 2 GiB": (
        2048,
        "39740da2ea1e7e6c69e5e6569755b2ad6d622a8a9983a2c5b32d5574659dbdc4ca8b95b1c766bd610bc5c26dcde842f8",
        "6385b89d2decb3de678d51faba0ff3506835915818fd3ee53a739aa678cd9c76bdd755adfa0aa714cf35a1abe062b253",
        "05705c3ca9d71e908d5ce70d4331b6aadce5331b9a6a546f222f017fb0e1797b951a3dac72f59cb197a0c897a201ca07",
        "68102e7b524af310f7b7d426ce75481e36c40f5d513a9009c046e9d37e31551f0134d954b496a3357fd61d03f07ffe96",
    ),
    "8.2.2, 2 vCPU, 2 GiB": (
        2048,
        "095d04cf26fe03aef6e3561fa24c1aa1cea93f4aeaf563b1f9f7616184c53454875925759434769cec2490acb563a337",
        "8d9a4d4777a1bc77ecd9d8d37a4628129a80052a510320159a20a923bd07a0e90d8d1f2e1ebf088992b25f0d0fa672ef",
        "3070721e169bc41884724cb0e6b3082e1baf249083d8b389181ba50b9afa951057876c380b8870e8c2facf2eff67a2b6",
        "f8438db36b96f85d8752ff7f24a89ec05c79ec9eda2ba732c897fb970ca429365b7471b1c054cb84f17b1c2b23ba6640",
    ),
    "8.2.2, 8 vCPU, 64 GiB": (
        65536,
        "6dae15170c9fea6455681e3f838941a642ff9001a02a333e9ca8549af1db4ba47f01403e31dabe6e8a0b41ddd38b6d99",
        "b3a62232ef6be064cce25a8b92cf55d4a6c099ee7a9c0852ce0c7d572393dae84895c0f59a9db5000f0b34a90c1b1bec",
        "b6ed8ff3fca3c308f3f1ec7889054cc900b1c6dad9b14aedd0144d046626c81a5dbae47937f4949bb2d674a0bd699a7b",
        "e673be2f70beefb70b48a6109eed4715d7270d4683b3bf356fa25fafbf1aa76e39e9127e6e688ccda98bdab1d4d47f46",
    ),
    "9.2.1, 16 vCPU, 64 GiB, GPU": (
        65536,
        "2065dd48d647e4377db277ba203526901a17845e93e0df4c2dfc3ce136e0910324ead1e1c86b8d90c2acdf9c85ffac53",
        "772b0169c66b52e4453fff9e3c6257635ea950ebcc8edd7ef2e2f8241cf6a155f39df01a7c7a194b6bc0abe5de11861d",
        "abfb2256644b5786eefdcb92303d2008c36cb9500d98997e215ef5080745d4bf2e5b3629090918e193e7f05b173d48c5",
        "2e3843265f8ecdd4e2282694747f6f2f111605c33f2a8882f5734ee6f3a6ce63d8f34aeef06093dcda76fa5f9d33d8d6",
    ),
}


@pytest.mark.parametrize(("mebibytes", "loader", "rsdp", "tables", "expected"), ROWS.values(), ids=ROWS)
def test_rtmr0_of_quotes_from_published_acpi_digests(
    mebibytes: int, loader: str, rsdp: str, tables: str, expected: str
) -> None:
    events = rtmr0(AcpiDigests(loader, rsdp, tables), metadata=S2, mebibytes=mebibytes)
    assert replay(events)["rtmr0"] == expected


def test_rtmr0_of_a_real_quote_in_the_vectors(vectors: Path) -> None:
    quote = parse_quote((vectors / "quotes/18d07608fe_dcap-qvl_quote_hex.bin").read_bytes())
    assert quote.body.rtmr0 == ROWS["8.2.2, 1 vCPU, 2 GiB"][-1]


def test_a_whole_g2_boot_has_the_event_layout_of_a_real_log(vectors: Path) -> None:
    """Types and order of all three registers, and every digest that depends on no file, equal a real TD's."""
    log = [event for event in parse_ccel((vectors / "pairs/qemu-direct-2g/ccel.bin").read_bytes()) if event.register]
    files = BootFiles((vectors / VIRTEE).read_bytes(), bzimage(), b"initrd", "quiet")
    vmm = VmmSpec("qemu", "10.2.1", "q35,smm=off,pic=off", "cpu", ())
    (profile,) = launch_profiles(files, vmm=vmm, edk2="202502", shapes=[(2, 2048 * MIB)])
    assert profile.kernel_form is KernelForm.RAW
    predicted = Measurer(files).predict(profile, AcpiDigests(*("ab" * 48,) * 3)).events
    files_decide = {"TD HOB", "variable store", "kernel", "LOADED_IMAGE::LoadOptions", "Linux initrd"}
    for register in ("rtmr0", "rtmr1", "rtmr2"):
        ours = [event for event in predicted if event.register == register]
        theirs = [event for event in log if event.register == register]
        assert [event.event_type for event in ours] == [event.event_type for event in theirs]
        for mine, real in zip(ours, theirs, strict=True):
            if mine.name not in files_decide and not mine.name.startswith("etc/"):
                assert mine.digest == real.digest, mine.name
