"""The result of `measure` for a dstack image: what there is besides Reference Values."""

from dataclasses import asdict, dataclass
from typing import Any

from builder.cli.dstack import MeasuredImage
from builder.cli.measure_app import MeasuredApp
from builder.cli.output import Table
from builder.cli.registers import events_table
from builder.errors import ExitStatus
from builder.measure.dstack.app import Identities, identities_of
from builder.measure.dstack.measurement import FILE_NAME
from builder.model.reference_values import event_document

_NO_APP = Identities(None, None, ("mr_system, mr_aggregated: --app-compose was not given",))


@dataclass(frozen=True)
class DstackResult:
    """An image and perhaps its app, measured."""

    measured: MeasuredImage
    app: MeasuredApp | None

    @property
    def status(self) -> ExitStatus:
        """A TDX document that is not that of the files is a register that differs."""
        return ExitStatus.REGISTER_DIFFERS if self.measured.differences else ExitStatus.OK

    @property
    def identities(self) -> dict[str, Identities]:
        """Identities by launch profile."""
        app = self.app
        return {
            each.profile.name: _NO_APP
            if app is None
            else identities_of(each.registers, app.prediction, app.configuration)
            for each in self.measured.values.predictions
        }

    def document(self) -> dict[str, Any]:
        """The members that a dstack image adds to the result."""
        differences = self.measured.differences
        document: dict[str, Any] = {
            "os_image_hash": self.measured.image.os_image_hash,
            "measurement_document": None if differences is None else {"differences": list(differences)},
            "identities": {
                name: {**asdict(each), "reasons": list(each.reasons)} for name, each in self.identities.items()
            },
            "notes": list(self.measured.notes),
        }
        return document if self.app is None else {**document, **_app_document(self.app)}

    def blocks(self, *, events: bool) -> list[str | Table]:
        """The same for people."""
        image_hash = self.measured.image.os_image_hash
        blocks: list[str | Table] = [] if image_hash is None else [f"os_image_hash {image_hash}"]
        blocks += self.measured.notes
        blocks += _document_lines(self.measured.differences)
        if self.app is not None:
            blocks += _app_lines(self.app)
            blocks += _identity_lines(self.identities)
            if events and self.app.prediction.events:
                blocks.append(events_table(self.app.prediction.events, caption="Events of RTMR3"))
        return blocks


def _app_document(app: MeasuredApp) -> dict[str, Any]:
    prediction = app.prediction
    return {
        "rtmr3": prediction.rtmr3,
        "app": {
            "compose_hash": prediction.compose_hash,
            "app_id": prediction.app_id,
            "events": [event_document(event) for event in prediction.events],
            "reasons": list(prediction.reasons),
        },
    }


def _document_lines(differences: tuple[str, ...] | None) -> list[str]:
    if differences is None:
        return []
    if not differences:
        return [f"{FILE_NAME}: agrees with the files"]
    return [f"{FILE_NAME}: DIFFERS from the files: {each}" for each in differences]


def _app_lines(app: MeasuredApp) -> list[str]:
    prediction = app.prediction
    return [
        f"compose_hash {prediction.compose_hash}",
        f"app_id {prediction.app_id}",
        f"rtmr3 {prediction.rtmr3 or 'not predicted'}",
        *(f"not predicted: rtmr3: {reason}" for reason in prediction.reasons),
    ]


def _identity_lines(identities: dict[str, Identities]) -> list[str | Table]:
    rows = tuple(
        (name, each.mr_system or "not known", each.mr_aggregated or "not known") for name, each in identities.items()
    )
    reasons = dict.fromkeys(reason for each in identities.values() for reason in each.reasons)
    table = Table(("profile", "mr_system", "mr_aggregated"), rows, caption="Identities")
    return [table, *(f"not known: {reason}" for reason in reasons)]
