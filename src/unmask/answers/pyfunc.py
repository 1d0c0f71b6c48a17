"""The model as MLflow runs it: a script that MLflow copies beside the weights and executes."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class VideoModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mypy does not read mlflow
    """From paths of videos to the verdict on each, and the probability that a face is fake."""

    def load_context(self, context: Any) -> None:
        """Read the model's folder that MLflow unpacked."""
        from unmask.answers.analysis import analyse
        from unmask.models.predict import Predictor

        self.analyse = analyse
        self.predictor = Predictor.load(Path(context.artifacts["model"]))

    def predict(
        self,
        context: Any,  # noqa: ARG002  # MLflow passes it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002  # the same
    ) -> pd.DataFrame:
        """Return path, probability, verdict, doubts and reason of each video, in order.

        As `unmask predict` answers. doubts say why a verdict is inconclusive, with spaces between.
        Where there is no probability the reason says why; a video that breaks off may have both.
        model_input has a column path, or is a list of paths.
        """
        paths = list(model_input["path"] if isinstance(model_input, pd.DataFrame) else model_input)
        answers = list(self.analyse(self.predictor, [Path(path) for path in paths]))
        reasons = [None if each.reason is None else str(each.reason) for each in answers]
        return pd.DataFrame(
            {
                "path": pd.Series(paths, dtype=object),
                "probability": pd.Series([each.probability for each in answers], dtype=float),
                "verdict": pd.Series([str(each.verdict) for each in answers], dtype=object),
                "doubts": pd.Series([" ".join(each.doubts) for each in answers], dtype=object),
                "reason": pd.Series(reasons, dtype=object),
            }
        )


mlflow.models.set_model(VideoModel())
