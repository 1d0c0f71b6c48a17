"""The model as MLflow runs it: a script that MLflow copies beside the weights and executes."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class VideoModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mypy does not read mlflow
    """From paths of videos to the probability that a face in each is fake."""

    def load_context(self, context: Any) -> None:
        """Load the detector from the folder that MLflow unpacked."""
        from unmask.predict import Predictor

        self.predictor = Predictor.load(Path(context.artifacts["model"]))

    def predict(
        self,
        context: Any,  # noqa: ARG002  # MLflow passes it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002  # the same
    ) -> pd.DataFrame:
        """Return path, probability and reason of each video, in order.

        Where there is no probability the reason says why; a video that breaks off may have both.
        model_input has a column path, or is a list of paths.
        """
        paths = list(model_input["path"] if isinstance(model_input, pd.DataFrame) else model_input)
        scores = list(self.predictor.predict_files([Path(path) for path in paths]))
        reasons = [None if score.reason is None else str(score.reason) for score in scores]
        return pd.DataFrame(
            {
                "path": pd.Series(paths, dtype=object),
                "probability": pd.Series([s.probability for s in scores], dtype=float),
                "reason": pd.Series(reasons, dtype=object),
            }
        )


mlflow.models.set_model(VideoModel())
