"""Generated ACPI tables against every published and measured digest (`acpi.md` 10), and what must hold for all."""

import hashlib
import itertools
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.acpi.blobs import RSDP_FILE, TABLES_FILE, check_acpi
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.loader import blobs_for
from builder.measure.acpi.machine import (
    AcpiMachine,
    AcpiProfile,
    Expander,
    PciFunction,
    acpi_profile,
    dstack_machine,
)

MIB, GIB = 1 << 20, 1 << 30


def dstack(version: str = "11.1.0", *, vcpus: int = 1, memory: int = 2 * GIB, **options: Any) -> AcpiMachine:
    """dstack's machine; its digests are of tables with unprogrammed bridges (`acpi.md` 10.3)."""
    return dstack_machine(version, vcpus=vcpus, memory=memory, bridges_programmed=False, **options)


def sha256(machine: AcpiMachine) -> str:
    return hashlib.sha256(generate_acpi(machine).tables).hexdigest()


# `acpi.md` 10.1, 10.2: machine, SHA-384 of loader, rsdp and tables; size, DSDT length, RSDT offset, SHA-256 of tables
MEASURED = {
    "1": (
        dstack("8.2.2", pic=True),
        "39740da2ea1e7e6c69e5e6569755b2ad6d622a8a9983a2c5b32d5574659dbdc4ca8b95b1c766bd610bc5c26dcde842f8",
        "6385b89d2decb3de678d51faba0ff3506835915818fd3ee53a739aa678cd9c76bdd755adfa0aa714cf35a1abe062b253",
        "05705c3ca9d71e908d5ce70d4331b6aadce5331b9a6a546f222f017fb0e1797b951a3dac72f59cb197a0c897a201ca07",
        (131072, 8202, 0x2288),
        "5e4e349c39592beb0f61025edbf74c5b321557c4afb0fb1bf0d2708c4bd90600",
    ),
    "2": (
        dstack("8.2.2", vcpus=2, pic=True),
        "095d04cf26fe03aef6e3561fa24c1aa1cea93f4aeaf563b1f9f7616184c53454875925759434769cec2490acb563a337",
        "8d9a4d4777a1bc77ecd9d8d37a4628129a80052a510320159a20a923bd07a0e90d8d1f2e1ebf088992b25f0d0fa672ef",
        "3070721e169bc41884724cb0e6b3082e1baf249083d8b389181ba50b9afa951057876c380b8870e8c2facf2eff67a2b6",
        (131072, 8285, 0x22E3),
        "c9435548096b80700eca989cfe42304481a474a3b0fce1cdcc9c86f6a97486cc",
    ),
    "3": (
        dstack("8.2.2", vcpus=8, memory=16 * GIB, pic=True),
        "6dae15170c9fea6455681e3f838941a642ff9001a02a333e9ca8549af1db4ba47f01403e31dabe6e8a0b41ddd38b6d99",
        "b3a62232ef6be064cce25a8b92cf55d4a6c099ee7a9c0852ce0c7d572393dae84895c0f59a9db5000f0b34a90c1b1bec",
        "b6ed8ff3fca3c308f3f1ec7889054cc900b1c6dad9b14aedd0144d046626c81a5dbae47937f4949bb2d674a0bd699a7b",
        (131072, 8802, 0x2518),
        "4f93bdb24629c032fc5caa6f1648d3be447683aa878e6f73ac4fef2edbe588fa",
    ),
    "4": (
        dstack("8.2.2", vcpus=8, memory=64 * GIB, pic=True),
        "6dae15170c9fea6455681e3f838941a642ff9001a02a333e9ca8549af1db4ba47f01403e31dabe6e8a0b41ddd38b6d99",
        "b3a62232ef6be064cce25a8b92cf55d4a6c099ee7a9c0852ce0c7d572393dae84895c0f59a9db5000f0b34a90c1b1bec",
        "b6ed8ff3fca3c308f3f1ec7889054cc900b1c6dad9b14aedd0144d046626c81a5dbae47937f4949bb2d674a0bd699a7b",
        (131072, 8802, 0x2518),
        "4f93bdb24629c032fc5caa6f1648d3be447683aa878e6f73ac4fef2edbe588fa",
    ),
    "5": (
        dstack("9.1.0"),
        "39740da2ea1e7e6c69e5e6569755b2ad6d622a8a9983a2c5b32d5574659dbdc4ca8b95b1c766bd610bc5c26dcde842f8",
        "6385b89d2decb3de678d51faba0ff3506835915818fd3ee53a739aa678cd9c76bdd755adfa0aa714cf35a1abe062b253",
        "bf59d385de5dbab70ffe5669f700a62d5bf28d06016df39c532c52024698031589e6d99c1323e64bbb8b9619d724f7c2",
        (131072, 8202, 0x2288),
        "ff0c03c7f4026a95b0b2f2e08cef7d501a3a44b4df036c9f26de91828f0215f6",
    ),
    "6": (
        dstack("9.2.1"),
        "28d4fe94dfb2f773691099d27971878260127377c57924cc9f4aa46afd5e67cfa62341631a894351a8e2566a26776eae",
        "8b0eb332cbb9b0b22980582d56708d4b95912f046e52f727a755febd51ab0fa883139dac27ac3b133b2f5c09ebbda61b",
        "c4cdea67314c23b7f5d9dd6e930bc498b7a4dab605d8851531cbfc4272482edd8df9a605aff97cd1311ea0347d03c16a",
        (131072, 8220, 0x222C),
        "b183eba66c6e96556f28cefe60ca92620b82488fcefaf66167aad61e2b2e73d1",
    ),
    "7": (
        dstack("9.2.1", vcpus=16, memory=64 * GIB, gpus=1, hotplug_off=True, pci_hole64=1 << 44),
        "2065dd48d647e4377db277ba203526901a17845e93e0df4c2dfc3ce136e0910324ead1e1c86b8d90c2acdf9c85ffac53",
        "772b0169c66b52e4453fff9e3c6257635ea950ebcc8edd7ef2e2f8241cf6a155f39df01a7c7a194b6bc0abe5de11861d",
        "abfb2256644b5786eefdcb92303d2008c36cb9500d98997e215ef5080745d4bf2e5b3629090918e193e7f05b173d48c5",
        (131072, 9098, 0x2612),
        "80c3a83ed2e4dacc2f405bee0ccc606b16f8521365f2be61975bc2e514b84a49",
    ),
    "8": (
        dstack("10.1.0"),
        "d8c90b5d0f756dcd707c190313b44e3129abc6c20118efdd32b78f84fa64a6c51396fa43debc993dec00b85718bf7491",
        "ab0063753f886063d08d1e65031fdcd12e210764b476210edf90e006af701c20df1710ab3fcb7dee651727f4a369f29a",
        "8583382b5eb22b3b7b8194777aa82ae7060c6b5e8387ee59926a9dc429e1069a9215c24dd299cee42611fd1960711c50",
        (131072, 8287, 0x226F),
        "d0410a8abdbba6d86a19a2eefd491376727e4e2d80c54349d7f30deca14ca6e1",
    ),
    "9": (
        dstack("11.0.0"),
        "eba7c54aaf330a9ecdaec42e9f1de4ac6cfa70c01d31ed5e72b4462167771aec6f73c0c1f7fb5f704062bd89b90f9dbf",
        "4ab8326f9129cfe0e0e91439cc88ccabac66f3f05b6298aad284349ef146f8c9ca8b719d4be62b03fcdbee58b2fc77c5",
        "c698f269e4897a7765826ad285d70a802e787cc8a5a001f4dff23a60a8d4dabbfd76cd9bb5ac3a3e3da6b999cc725bde",
        (131072, 8274, 0x2262),
        "e211dd453e651ef320d28c65d23f578e96468614614e7b1172f18df5052d0f1f",
    ),
    "10": (
        dstack("11.1.0"),
        "550f6e8d1cc56715589835595709f93b6ee3357c1f8e622c213ba63a3eab124417a217d733ca970a5bd67129c40e54c9",
        "eaad550e39b3abe0acaff51628ae2d6541243bb3a776afe32deead3a506f7e98f5ba24bc08ba03a54b4cdfbbe1807daa",
        "f587964a7e989959ef1d14a2f13dd544421cea7ab88a1ed5f39f2b6ce070af74d07665f4042e33dff5c6a32f8eb071ba",
        (131072, 8275, 0x2263),
        "09f99e5dcf36b80a9258e849b3a9a70e7914244008e6a92a689eb22e4cc17a8f",
    ),
    "11": (
        dstack("11.1.0", vcpus=4096),
        "5ab94c02c816b72c7456d5cf7050eb41003ecf34a7efe1e4c98d3a478bfa3f04d680de29ad776b74c3620083ba6ea470",
        "53e91c97c2d573578adad37805561182f53a1bb1fdf10d8a2a211c0748f4daf89abaa205faf138d2353f70d248e93fce",
        "7234bb7a4006e29ccd140a6d8bb2ee883bc96faabb77021fa617defa93b0c209f78b023e5eb66dd08902503c15be622d",
        (655360, 471831, 0x82D2D),
        "6a4bbd704addd10996632d6535432598c742789e60b29d055a7784be927588a5",
    ),
}

# `acpi.md` 10.3; one more row is below
PUBLISHED = [
    (dstack("8.2.0"), "ff0c03c7f4026a95b0b2f2e08cef7d501a3a44b4df036c9f26de91828f0215f6"),
    (dstack("9.1.0"), "ff0c03c7f4026a95b0b2f2e08cef7d501a3a44b4df036c9f26de91828f0215f6"),
    (dstack("9.2.1"), "b183eba66c6e96556f28cefe60ca92620b82488fcefaf66167aad61e2b2e73d1"),
    (dstack("10.0.0"), "d0410a8abdbba6d86a19a2eefd491376727e4e2d80c54349d7f30deca14ca6e1"),
    (dstack("11.0.0"), "e211dd453e651ef320d28c65d23f578e96468614614e7b1172f18df5052d0f1f"),
    (dstack(), "09f99e5dcf36b80a9258e849b3a9a70e7914244008e6a92a689eb22e4cc17a8f"),
    (dstack(vcpus=2), "1362c6f473801b34f93df4e2966b2d3350f7f9113750da78a2cb799177157da8"),
    (dstack(vcpus=8), "0f9fc08c5efd03f1cb3cfaa1a0a09c45dcfbc18183dbc5aa1367ad10eb65135a"),
    (dstack(vcpus=64), "089fda95fb5d45ba9a5f46ebc99d85e1331daa4dd38f60597eec9a3d95c94bb5"),
    (dstack(vcpus=256), "d1c3291dbdf0ccc4acdecce5f78fbe80e0ca7d6d803a62c9f5b59ee8c7e0a1b5"),
    (dstack(vcpus=4096), "6a4bbd704addd10996632d6535432598c742789e60b29d055a7784be927588a5"),
    (dstack(nics=0), "93a140bbc031dc313ed4011b838c8b22ffdecb474435d9fcb294be97194c953c"),
    (dstack(nics=2), "fbf083121cc3b46b3b7913e45e635e6bb31e11f0cb6e029aa504bc4de68e2d64"),
    (dstack(verity_volumes=1), "fbf083121cc3b46b3b7913e45e635e6bb31e11f0cb6e029aa504bc4de68e2d64"),
    (dstack(verity_volumes=4), "7d722d7e3d811aa7978030af1d2a6c6aa68a5ab9267d7dff4e57babdf1476870"),
    (dstack(gpus=1, hotplug_off=True), "0948490885eb9a777d553c7c0c529e3647533f4251b394f2f7f0a9862dadb4ca"),
    (dstack(gpus=8, hotplug_off=True), "93946fc370652394d13211bd1e9361a27128a56339017f9e3645d86f0bddc1bd"),
    (
        dstack(gpus=1, nvswitches=1, hotplug_off=True),
        "bc29add92b02f264c41cfbde65beb24499cbb43e10fefe191f3a513284c050de",
    ),
    (
        dstack(gpus=1, nvswitches=4, hotplug_off=True),
        "323e607f82db7a002bd6a71e7a6ac1ed746e94e3daba75dde2958751861c1a57",
    ),
    (dstack(hugepages=True, gpus=1), "a8449287b161102ca136f892d13d6bc853d1abdc9ba7804e886f0a42784878c3"),
    (dstack(hugepages=True, gpus=8), "a8449287b161102ca136f892d13d6bc853d1abdc9ba7804e886f0a42784878c3"),
    (dstack(hugepages=True, gpus=32), "a8449287b161102ca136f892d13d6bc853d1abdc9ba7804e886f0a42784878c3"),
    (
        dstack(vcpus=2, hugepages=True, gpus=1, memory=MIB),
        "8d7620126cfd2a2edabbc8c9f289ca2993f547d595eed61fd508d24f2b52e3ac",
    ),
    (
        dstack(vcpus=2, hugepages=True, gpus=1, memory=2049 * MIB),
        "646e5cc620fd7819f8f4756c712619d2a72c29a175fc04b79867cee80e67cf82",
    ),
    (
        dstack(vcpus=2, hugepages=True, gpus=1, memory=2815 * MIB),
        "ee35c5e548a3f527dd12b1dd6ee14e093fd6063056470b3ef6cb6c844e4186a4",
    ),
    (
        dstack(vcpus=2, hugepages=True, gpus=1, memory=2816 * MIB),
        "3bf181108245994ceb7e983b1fa62009dcd56f7b49fd1e96ef15eb07d04aefc9",
    ),
]

# the same, 1 TiB: upstream's generator runs as an AMD model, whose memory QEMU moves (`acpi.md` 5.7)
RELOCATED = "f22a114b0975b18200553442d6c9fab172fb930252c1a95926c594b2c25bca57"

# `acpi.md` 10.4, from unmodified QEMU 10.0.2 and 11.1.3
UNMODIFIED = [
    (
        dstack("10.0.2", vcpus=8, memory=2815 * MIB, pic=True),
        "df462c63792f4946c00a8214f0bb02455dc4ae96e9dbb0fda16cd87f342fe283",
    ),
    (
        dstack("11.1.3", vcpus=8, memory=2815 * MIB, pic=True),
        "f3cab0798b553aba0fc2933f744acc1c6d02d9e3b9fb782678e821f1b1ca1f2a",
    ),
    (
        dstack("10.0.2", vcpus=16, memory=4 * GIB, nics=2, verity_volumes=2),
        "62383ba5f8774c17d67ba2234fc53574a8ff6d3f7539a271966e4c96a0b22299",
    ),
    (
        dstack("11.1.3", vcpus=16, memory=4 * GIB, nics=2, verity_volumes=2),
        "e140af6a8c273c833d0ab1cacb48fdb56d87886c62172641aa14cf819c4486e5",
    ),
    (
        dstack("10.0.2", vcpus=64, memory=8 * GIB, root_verity=False, hotplug_off=True),
        "de425ec8933269733ffa38111013c9926ca2c9f129bb7b3c711a9ed1d40d16e6",
    ),
    (
        dstack("11.1.3", vcpus=64, memory=8 * GIB, root_verity=False, hotplug_off=True),
        "4fbd8e31335bea3c8ada3f27cc13e30133fe3dd34d97622ae75aa1eb374b833e",
    ),
    (
        dstack("10.0.2", vcpus=16, memory=4 * GIB, gpus=1, hotplug_off=True),
        "0c64adcd4060b0470d18578d74eb18c47a680dc069e55e8767a176cef5566d02",
    ),
    (
        dstack("11.1.3", vcpus=16, memory=4 * GIB, gpus=1, hotplug_off=True),
        "2160dbdfda6f25675eaeab0d6669fb89283f7b86524cabb436379cbbade5ff85",
    ),
    (
        dstack("10.0.2", vcpus=16, memory=4 * GIB, gpus=8, nvswitches=4, hotplug_off=True),
        "6d0a1f22e7afd71082325a06ae1589ddcedbbb4622500d1a5bbc007be2a62fed",
    ),
    (
        dstack("11.1.3", vcpus=16, memory=4 * GIB, gpus=8, nvswitches=4, hotplug_off=True),
        "648a9b403c8ffa996d20e2cf894f6c0b2ebabc271a5f0faf0af7fd31678ad083",
    ),
    (
        dstack("10.0.2", vcpus=4, memory=4 * GIB, hugepages=True),
        "538c178de0a6f9bd0dfec0a61fc02eb7a376094004dc5b9f776a676378e924b2",
    ),
    (
        dstack("11.1.3", vcpus=4, memory=4 * GIB, hugepages=True),
        "5d0883bbf4bc57140352ab3b0751719559b8f634945ac3c85b219c955d4c359c",
    ),
    (
        dstack("10.0.2", vcpus=4, memory=4 * GIB, hugepages=True, gpus=1),
        "59a81ef59c2a3b3df3eaf451f00c0fc1025a54a46a5c43d1fc797c6ab88047dc",
    ),
    (
        dstack("11.1.3", vcpus=4, memory=4 * GIB, hugepages=True, gpus=1),
        "5d64e9cbe0fcc21bd87fd2ada822ac409eae26920bd2cfbbd2fb94663d123657",
    ),
    (
        dstack("10.0.2", vcpus=4, memory=4 * GIB, hugepages=True, gpus=8, nvswitches=4, hotplug_off=True),
        "68f888e287a182bb2cd4caec8550d55c80db7d48219344d5b31f8347dea154a5",
    ),
    (
        dstack("11.1.3", vcpus=4, memory=4 * GIB, hugepages=True, gpus=8, nvswitches=4, hotplug_off=True),
        "79cf377dc9f158ffd56961bf3cd6bb31f6ab5c36b16f1c4441b92eec5fb242ba",
    ),
    (
        dstack("10.0.2", vcpus=2, memory=64 * GIB, hugepages=True, pci_hole64=1 << 44),
        "a1a9c1ce5f1baef9172842b92f418a90491db56af53665f6b1da732f119c57b7",
    ),
    (
        dstack("11.1.3", vcpus=2, memory=64 * GIB, hugepages=True, pci_hole64=1 << 44),
        "067e75d53b91e15c62da101ca1eee00947a14103f057d365638913569bff1029",
    ),
    (
        dstack("10.0.2", vcpus=2, memory=1020 * GIB, hugepages=True),
        "71e33be7aa7a05884c86ec2e0b11338de1c0c29fdbfdc0e0c4ef6684237b09bd",
    ),
    (
        dstack("11.1.3", vcpus=2, memory=1020 * GIB, hugepages=True),
        "6b688fc99010f2a0ca914d99fc4c62c7abb9e458a68e963ae16b9e6d31b20e38",
    ),
    (dstack("10.0.2", vcpus=300, memory=4 * GIB), "58bdb2e3a34e4b0650a70decf896152abf00953fe42386e8490d4e6c037c5cc0"),
    (dstack("11.1.3", vcpus=300, memory=4 * GIB), "060c3a57bb2416eac5aa39b15c104b495a6e886c77f935950595c7418d67dbab"),
    (dstack("10.0.2", vcpus=2, gpus=1), "826e60cd89135744751e1711a795787ac4c813727c445573f44680ea206a4cc4"),
    (dstack("11.1.3", vcpus=2, gpus=1), "47fb9350e377a1c5cbf33a57cecb03bf913b6d8464d86dbc6a0d21da1789af73"),
    (dstack("10.0.2", vcpus=2, gpus=2), "95e7b197e1d5bcb7156f8ff55c435f3f1a6ea998458c2efd1dbdc7299cc54279"),
    (dstack("11.1.3", vcpus=2, gpus=2), "dda096254b6a139642ff06ce3c705795b86d96421b375f695b0931721a7634f7"),
    (
        dstack("10.0.2", vcpus=2, gpus=8, nvswitches=4),
        "a0a6625ea8a054e2c89fd6207a09129e043ea0b0af83ecab33c2a150f913ea86",
    ),
    (
        dstack("11.1.3", vcpus=2, gpus=8, nvswitches=4),
        "f137a381bc9e51628a34f4f5cd984454d0010f91bbd065e9557882c24822e2a1",
    ),
    (
        dstack("10.0.2", vcpus=2, hugepages=True, gpus=8, nvswitches=4),
        "219d42752ca60b4598b8d17d267d6a57bf32794f5eb059c5670c63c0b047ea8f",
    ),
    (
        dstack("11.1.3", vcpus=2, hugepages=True, gpus=8, nvswitches=4),
        "87181fca983a452f5a5893ae4b6f7e87c4b3ffca60092240f6a405e80b091661",
    ),
]


@pytest.mark.parametrize("row", MEASURED)
def test_measured_digests_are_reproduced(row: str) -> None:
    machine, *sha384, shape, tables_sha256 = MEASURED[row]
    blobs = generate_acpi(machine)
    digests = blobs.digests()
    assert [digests.loader, digests.rsdp, digests.tables] == sha384
    found = len(blobs.tables), u32(blobs.tables, 64 + 4), u32(blobs.rsdp, 16)
    assert found == shape
    assert hashlib.sha256(blobs.tables).hexdigest() == tables_sha256


@pytest.mark.parametrize(("machine", "digest"), PUBLISHED)
def test_published_digests_are_reproduced(machine: AcpiMachine, digest: str) -> None:
    assert sha256(machine) == digest


@pytest.mark.parametrize(("machine", "digest"), UNMODIFIED)
def test_digests_of_unmodified_vmms_are_reproduced(machine: AcpiMachine, digest: str) -> None:
    assert sha256(machine) == digest


def test_memory_is_never_moved_as_for_amd_models() -> None:
    tables = generate_acpi(dstack(vcpus=2, hugepages=True, gpus=1, memory=1 << 40)).tables
    assert hashlib.sha256(tables).hexdigest() != RELOCATED
    high_memory = struct.pack("<Q", 4 * GIB) + struct.pack("<Q", (1 << 40) - 2 * GIB)
    assert tables.count(high_memory) == 1
    moved = tables.replace(high_memory, struct.pack("<Q", 1 << 40) + high_memory[8:])
    assert hashlib.sha256(moved).hexdigest() == RELOCATED, "nothing else is different"


BASE = dstack("10.0.2", vcpus=4, memory=4 * GIB)
OTHERS = {
    "vcpus": replace(BASE, vcpus=5),
    "memory below 4 GiB": replace(BASE, memory=2815 * MIB),
    "one function more": replace(BASE, functions=(*BASE.functions, PciFunction(0x80))),
    "one function less": replace(BASE, functions=BASE.functions[1:]),
    "another place": replace(BASE, functions=(*BASE.functions[:-1], PciFunction(0x80))),
    "a root port": replace(BASE, functions=(*BASE.functions[:-1], PciFunction(BASE.functions[-1].devfn, ()))),
    "an occupied root port": replace(
        BASE, functions=(*BASE.functions[:-1], PciFunction(BASE.functions[-1].devfn, (0,)))
    ),
    "window base": replace(BASE, window_base=BASE.window_base + GIB),
    "window size": replace(BASE, window_size=BASE.window_size + GIB),
    "an expander": replace(BASE, expanders=(Expander(0x80, 5),)),
    "another bus": replace(BASE, expanders=(Expander(0x80, 6),)),
    "one NUMA node": replace(BASE, numa_nodes=1),
    "an expander with a node": replace(BASE, numa_nodes=1, expanders=(Expander(0x80, 5, 0),)),
    "two NUMA nodes": replace(BASE, numa_nodes=2),
    "no hotplug": replace(BASE, hotplug=False),
    "pic": replace(BASE, pic=True),
    "smm": replace(BASE, smm=True),
    "hpet": replace(BASE, hpet=True),
    "no serial port": replace(BASE, serial=False),
    "MMCONFIG of older firmware": replace(BASE, mmconfig=0xB0000000),
    **{profile.value: replace(BASE, profile=profile) for profile in AcpiProfile if profile is not BASE.profile},
}


def test_every_difference_of_machines_changes_the_tables() -> None:
    tables = [generate_acpi(machine).tables for machine in (BASE, *OTHERS.values())]
    assert len(set(tables)) == len(OTHERS) + 1


def test_memory_above_4_gib_shows_only_with_numa() -> None:
    more = replace(BASE, memory=8 * GIB)
    assert generate_acpi(more) == generate_acpi(BASE)
    assert generate_acpi(replace(more, numa_nodes=1)) != generate_acpi(replace(BASE, numa_nodes=1))


def test_root_ports_are_numbered_by_creation_not_by_place() -> None:
    ports = (PciFunction(0x80, (0,)), PciFunction(0x48, (0,)))
    one, other = (replace(BASE, functions=BASE.functions + order) for order in (ports, ports[::-1]))
    assert generate_acpi(one) != generate_acpi(other)
    assert generate_acpi(replace(one, hotplug=False)) == generate_acpi(replace(other, hotplug=False))


@pytest.mark.parametrize("vcpus", [1, 8, 9, 254, 255, 256, 257, 1024, 4096])
def test_any_number_of_vcpus_is_listed(vcpus: int) -> None:
    assert check_acpi(generate_acpi(replace(BASE, vcpus=vcpus)), vcpus) == (RSDP_FILE, TABLES_FILE)


def test_uneven_numbers_of_vcpus_and_nodes_give_ranges_in_order() -> None:
    machine = replace(BASE, vcpus=6, memory=6 * GIB, numa_nodes=3)
    srat = table(generate_acpi(machine).tables, b"SRAT")
    nodes = [srat[48 + 16 * number + 2] for number in range(6)]
    assert nodes == [0, 0, 1, 1, 2, 2]
    ranges = [struct.unpack_from("<IHQQII", srat, 48 + 96 + 40 * number + 2) for number in range(5)]
    assert [(node, base, size, flags) for node, _, base, size, _, flags in ranges] == [
        (0, 0, 0xA0000, 1),
        (0, MIB, 2 * GIB - MIB, 1),
        (1, 4 * GIB, 2 * GIB, 1),
        (2, 6 * GIB, 2 * GIB, 1),
        (0, 0, 0, 0),
    ]


machines = st.builds(
    AcpiMachine,
    profile=st.sampled_from(AcpiProfile),
    vcpus=st.integers(1, 300).map(lambda number: number * 12),
    memory=st.integers(1, 1 << 20).map(lambda number: number * 12 * MIB),
    functions=st.lists(
        st.builds(
            PciFunction,
            devfn=st.integers(8, 0xF7),
            children=st.none() | st.just(()) | st.sets(st.integers(0, 7), min_size=1).map(tuple),
        ),
        max_size=8,
        unique_by=lambda function: function.devfn,
    ).map(tuple),
    window_size=st.integers(256, 1 << 14).map(lambda number: number * GIB),
    numa_nodes=st.sampled_from([0, 1, 2, 3, 4]),
    **{name: st.booleans() for name in ("hotplug", "pic", "smm", "hpet", "serial")},
    mmconfig=st.sampled_from([0xE0000000, 0xB0000000]),
)


@given(machine=machines)
def test_all_tables_have_the_form_that_the_firmware_and_the_checks_expect(machine: AcpiMachine) -> None:
    blobs = generate_acpi(machine)
    assert check_acpi(blobs, machine.vcpus) == (RSDP_FILE, TABLES_FILE)
    assert blobs_for(blobs.tables) == blobs
    found = list(walk(blobs.tables))
    wanted = [b"FACS", b"DSDT", b"FACP", b"APIC"]
    wanted += [b"HPET"] * machine.hpet + [b"SRAT"] * (machine.numa_nodes > 0) + [b"MCFG", b"WAET", b"RSDT"]
    assert [signature for signature, _ in found] == wanted
    assert all(body[9] == 0 for signature, body in found if signature != b"FACS"), "the guest computes checksums"
    assert not blobs.tables[sum(len(body) for _, body in found) :].strip(b"\0")


REFUSED = {
    "no vCPU": ({"vcpus": 0}, "0 vCPUs"),
    "too many vCPUs": ({"vcpus": 4097}, "4097 vCPUs"),
    "no memory": ({"memory": 0}, "memory of 0 bytes"),
    "negative memory": ({"memory": -GIB}, "memory of -"),
    "memory into the window": ({"memory": 56 << 40}, "64-bit PCI window"),
    "window below 4 GiB": ({"window_base": GIB}, "64-bit PCI window"),
    "empty window": ({"window_size": 0}, "64-bit PCI window"),
    "window beyond the address space": ({"window_size": 1 << 64}, "64-bit PCI window"),
    "MMCONFIG elsewhere": ({"mmconfig": 0xC0000000}, "MMCONFIG at 0xc0000000"),
    "negative nodes": ({"numa_nodes": -1}, "shared evenly by -1"),
    "uneven vCPUs": ({"numa_nodes": 3, "memory": 6 * GIB}, "shared evenly by 3"),
    "uneven memory": ({"numa_nodes": 4, "memory": 4 * GIB + 1}, "shared evenly by 4"),
    "tiny nodes": ({"numa_nodes": 4, "memory": 2 * MIB}, "less than 1 MiB"),
    "a place twice": ({"functions": (PciFunction(8), PciFunction(8, ()))}, "same place"),
    "the place of the chipset": ({"functions": (PciFunction(0xF8),)}, "same place"),
    "a place outside of the bus": ({"functions": (PciFunction(256),)}, "place"),
    "a place behind a port outside of it": ({"functions": (PciFunction(8, (8,)),)}, "place"),
    "the same place behind a port": ({"functions": (PciFunction(8, (0, 0)),)}, "place"),
    "too many devices": ({"functions": tuple(PciFunction(8 * slot) for slot in range(1, 28))}, "more than 26"),
    "an expander in place of a device": (
        {"functions": (PciFunction(0x80),), "expanders": (Expander(0x80, 5),)},
        "same place",
    ),
    "two expanders of one bus": ({"expanders": (Expander(0x80, 5), Expander(0x88, 5))}, "same bus number"),
    "the root bus again": ({"expanders": (Expander(0x80, 0),)}, "bus number"),
    "no such bus": ({"expanders": (Expander(0x80, 256),)}, "bus number"),
    "a node that is not there": ({"numa_nodes": 1, "expanders": (Expander(0x80, 5, 1),)}, "NUMA node"),
    "a node without NUMA": ({"expanders": (Expander(0x80, 5, 0),)}, "NUMA node"),
    "buses before the expander": (
        {"expanders": (Expander(0x80, 5, None, 4, ()),), "bridges_programmed": True},
        "end before",
    ),
    "buses after the last": (
        {"expanders": (Expander(0x80, 5, None, 256, ()),), "bridges_programmed": True},
        "after 255",
    ),
    "windows that nobody gave": ({"expanders": (Expander(0x80, 5, None, 5, ()),)}, "bus numbers and windows"),
    "a programmed expander": (
        {"expanders": (Expander(0x80, 5),), "bridges_programmed": True},
        "bus numbers and windows",
    ),
    "programmed ports beyond the window": (
        {"functions": (PciFunction(8, ()), PciFunction(16, ())), "bridges_programmed": True},
        "2 root ports with a 64-bit PCI window of 32 GiB",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_machine_that_is_not_covered_is_refused(name: str) -> None:
    changes, reason = REFUSED[name]
    with pytest.raises(DocumentError, match=reason) as caught:
        replace(BASE, **changes)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("version", "profile"),
    [
        ("8.0.0", AcpiProfile.P8),
        ("9.1.99", AcpiProfile.P8),
        ("9.2.0", AcpiProfile.P92),
        ("10.0.0", AcpiProfile.P10),
        ("10.2.1", AcpiProfile.P10),
        ("11.0.3", AcpiProfile.P110),
        ("11.1.0", AcpiProfile.P111),
        ("11.2.0", AcpiProfile.P111),
    ],
)
def test_versions_have_their_profile(version: str, profile: AcpiProfile) -> None:
    assert acpi_profile(version) is profile


@pytest.mark.parametrize(
    "version",
    ["", "10", "10.0", "10.0.2.1", "7.2.22", "12.0.0", "10.0.x", "v10.0.2", "1" * 5000 + ".0.2", "1\u0660.0.2"],
)
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(DocumentError, match="QEMU"):
        acpi_profile(version)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gpus": 1}, "BARs are not known"),
        ({"nvswitches": 1}, "BARs are not known"),
        ({"gpus": 8, "pci_hole64": 1 << 40}, "BARs are not known"),
        ({"gpus": 1, "hugepages": True, "pci_hole64": 1 << 44}, "bus numbers and windows"),
        ({"nics": -1}, "negative"),
        ({"nics": 1 << 60}, "more than 26"),
        ({"nics": 23}, "more than 26"),
        ({"pci_hole64": 0}, "hole of 0 bytes"),
        ({"pci_hole64": -1}, "hole of -1 bytes"),
    ],
)
def test_a_dstack_machine_that_no_td_has_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        dstack_machine("9.2.1", vcpus=1, memory=2 * GIB, **options)


def test_programmed_ports_in_a_large_hole_show_the_same_tables() -> None:
    options: dict[str, Any] = {"vcpus": 16, "memory": 64 * GIB, "gpus": 1, "hotplug_off": True, "pci_hole64": 1 << 44}
    programmed = dstack_machine("9.2.1", **options)
    assert programmed.bridges_programmed
    assert generate_acpi(programmed) == generate_acpi(dstack("9.2.1", **options))


def test_shapes_differ_pairwise() -> None:
    shapes = itertools.product((1, 2, 8), (1 * GIB, 2 * GIB), (False, True))
    tables = [sha256(dstack(vcpus=vcpus, memory=memory, pic=pic)) for vcpus, memory, pic in shapes]
    assert len(set(tables)) == len(tables)


def walk(tables: bytes) -> Any:
    offset, signature = 0, b""
    while signature != b"RSDT":
        signature, size = struct.unpack_from("<4sI", tables, offset)
        yield signature, tables[offset : offset + size]
        offset += size


def table(tables: bytes, wanted: bytes) -> bytes:
    (found,) = (body for signature, body in walk(tables) if signature == wanted)
    return bytes(found)


def u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")
