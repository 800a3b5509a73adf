"""Sessions of `./nox -s`: demo, guest, tests, lint, bench, fuzz. Each does all its own set-up, packages included."""

import os

import nox

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True

RUN_PACKAGES = ("apt", "bubblewrap", "ca-certificates")
TEST_PACKAGES = (
    *RUN_PACKAGES,
    *("debian-archive-keyring", "docker.io", "dosfstools", "fdisk", "gdisk", "gpg", "gpg-agent", "gpgv", "mount"),
    *("mtools", "ovmf", "patch", "procps", "util-linux"),
)
COVERAGE_FLOOR = 90


def debian(session: nox.Session, *packages: str) -> None:
    """Install the Debian packages that are missing, with tools/apt.sh."""
    script = f". ./tools/apt.sh; install_packages {' '.join(packages)}"
    session.run("sh", "-c", script, external=True, silent=False)


def install(session: nox.Session, extras: str = "") -> None:
    """Install tdx-builder from this checkout into the session's environment; the second time no network is needed."""
    session.install("--quiet", "hatchling>=1.18", "editables")  # isolated builds would fetch these every time
    session.install("--quiet", "--no-build-isolation", "--editable", f".{extras}")


def check_style(session: nox.Session) -> None:
    """Run the linter, the formatter's check, the type checker, and the auditor of the workflows."""
    session.run("ruff", "check", "--quiet", ".")
    session.run("ruff", "format", "--quiet", "--check", ".")
    session.install("--quiet", f"nox{nox.needs_version}")  # for the types of this file
    session.run("mypy")
    session.run("zizmor", "--offline", "--quiet", ".github/workflows")


@nox.session
def demo(session: nox.Session) -> None:
    """Build, measure, sign and verify recipes/quickstart from its committed lock, and compare with the release."""
    debian(session, *RUN_PACKAGES)
    install(session)
    session.run("sh", "tools/demo.sh", "quickstart", "out/demo", *session.posargs, external=True)


@nox.session
def guest(session: nox.Session) -> None:
    """The same for recipes/guest, whose firmware and kernel are compiled from source: about half an hour."""
    debian(session, *RUN_PACKAGES)
    install(session)
    session.run("sh", "tools/demo.sh", "guest", "out/guest-demo", *session.posargs, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Pass the tests; style and types come first."""
    debian(session, *TEST_PACKAGES)
    install(session, "[test,lint,cluster]")
    check_style(session)
    workers = os.environ.get("PYTEST_WORKERS", "2")
    session.run(
        "pytest",
        "-n",
        workers,
        "--dist",
        "loadgroup",
        "--cov",
        f"--cov-fail-under={COVERAGE_FLOOR}",
        "--cov-report=term:skip-covered",
        *session.posargs,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    install(session, "[lint]")
    check_style(session)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz every parser of the measuring core for 20 seconds each, or `-- SECONDS [PARSER...]`."""
    install(session, "[test,fuzz]")
    seconds, *names = session.posargs or ["20"]
    listed = session.run("python", "-m", "tests.fuzz", "--list", silent=True)
    for name in names or str(listed).splitlines():
        session.run("python", "-m", "tests.fuzz", name, f"-max_total_time={seconds}", silent=True)
        session.log(f"{name}: nothing found in {seconds} s")


@nox.session
def bench(session: nox.Session) -> None:
    """Print the benchmarks: what is measured and against what is in benchmarks/README.md."""
    debian(session, *RUN_PACKAGES)
    install(session)
    session.run("python", "-m", "benchmarks", *session.posargs)
