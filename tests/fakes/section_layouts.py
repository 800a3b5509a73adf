"""The section layouts of real firmware (`measurement.md` 4.2), and the TD HOB digests that are published for them."""

from builder.measure import TdvfMetadata, td_hob_list
from builder.measure.firmware.tdvf import SectionType, TdvfSection
from builder.model.digest import sha384_hex

MIB = 1 << 20
VIRTEE = "firmware/virtee_OVMF.inteltdx.fd"  # layout S2


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


def td_hob(metadata: TdvfMetadata, mebibytes: int) -> str:
    return sha384_hex(td_hob_list(metadata, mebibytes * MIB))


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
