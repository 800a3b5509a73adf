"""The step cache of development builds: what a step left is used again while everything it depends on is the same.

The key is the digest of the StepTask, which has every input by digest and the leg's variation, so that two legs never
share an entry. A release is given no cache at all (`None`), and refuses a leg that used one (`pipeline.legs`).
"""

from builder.errors import BuildFailedError, DocumentError
from builder.model.step_entry import encode_step_entry, parse_step_entry
from builder.model.task import StepResult, StepTask, check_result, task_digest
from builder.ports import ArtifactStore, StepIndex


class StepCache:
    """Entries in an index, and the files they name in a store."""

    def __init__(self, index: StepIndex, store: ArtifactStore) -> None:
        self._index = index
        self._store = store

    def find(self, task: StepTask) -> StepResult | None:
        """The result of an earlier run of this very task; None unless its entry is sound and every file there whole."""
        digest = task_digest(task)
        data = self._index.read(digest)
        if data is None:
            return None
        try:
            result = parse_step_entry(data, task_sha256=digest)
            check_result(task, result)
        except (DocumentError, BuildFailedError):
            return None
        return result if self._is_whole(result) else None

    def keep(self, task: StepTask, result: StepResult) -> None:
        """Remember what a task left; its files are in the store already."""
        digest = task_digest(task)
        self._index.write(digest, encode_step_entry(digest, result))

    def _is_whole(self, result: StepResult) -> bool:
        if self._store.path(result.log) is None:
            return False
        for content in result.outputs.values():
            path = self._store.path(content.sha256)
            if path is None or path.stat().st_size != content.size:
                return False
        return True
