"""The seccomp profile of a leg, sent with each container, so that every daemon applies the same one.

A leg's container has no capability, which already refuses most of what is listed here. The profile is the second wall:
it also shuts off what needs no capability (user namespaces, ptrace, keys, io_uring) and what no namespace covers
(vsock). Unlike docker's own profile it allows `personality`, by which a leg has no ASLR and an old kernel release.
Programs of another architecture are killed: what is refused by name for x86-64 would be open to them.
"""

import json
from typing import Any

_EPERM = 1
_ENOSYS = 38
_AF_VSOCK = 40  # reaches the host's hypervisor from any network namespace

REFUSED = {
    "file systems": (
        *("mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "open_tree_attr"),
        *("fsopen", "fsconfig", "fsmount", "fspick", "pivot_root", "chroot", "swapon", "swapoff"),
        *("quotactl", "quotactl_fd", "fanotify_init", "open_by_handle_at"),
    ),
    "other processes": (
        *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
        *("perf_event_open", "lookup_dcookie"),
    ),
    "namespaces": ("unshare", "setns"),
    "keys": ("add_key", "request_key", "keyctl"),
    "the kernel": (
        *("bpf", "init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load"),
        *("reboot", "acct", "syslog", "uselib", "iopl", "ioperm", "userfaultfd", "vhangup"),
        *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    ),
    "the clock": ("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime"),
}
_OF_NAMESPACES = ("file systems", "namespaces")
# clone(2): mount, cgroup, UTS, IPC, user, PID and network namespaces
_NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)


def seccomp_profile(*, user_namespaces: bool) -> str:
    """The profile in the JSON that docker's option `seccomp=` takes.

    With `user_namespaces` programs may make namespaces of their own, and mount in them what the kernel allows there.
    """
    groups = [names for reason, names in REFUSED.items() if not (user_namespaces and reason in _OF_NAMESPACES)]
    rules: list[dict[str, Any]] = [_refuse(list(names)) for names in groups]
    if not user_namespaces:
        rules += [_refuse(["clone"], _flag_set(0, flag)) for flag in _NAMESPACE_FLAGS]
        # its flags lie in memory, where no filter sees them; C libraries go back to clone
        rules.append(_refuse(["clone3"], number=_ENOSYS))
    rules.append(_refuse(["socket"], {"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_EQ"}))
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
    return json.dumps(profile, sort_keys=True)


def _refuse(names: list[str], *conditions: dict[str, Any], number: int = _EPERM) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": list(conditions)}


def _flag_set(index: int, flag: int) -> dict[str, Any]:
    return {"index": index, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}
