"""The federated benchmark: python stages/federated.py RAW FACES FOLDER METRICS ORGANISATIONS."""

import os
import sys
from pathlib import Path

from unmask import (
    federated_archives,
    federated_board,
    federated_local,
    federated_results,
    federated_runs,
    params,
    records,
)
from unmask.doors import open_tracker, progress, run_stage, weights_cache
from unmask.federated_samples import cropped
from unmask.train import Settings


def main() -> None:
    """Run a plan of each kind; FOLDER keeps those that are done, METRICS gets what they scored."""
    raw, faces, folder, metrics = map(Path, sys.argv[1:5])
    names = federated_runs.names_of(int(sys.argv[5]))
    settings = params.load()
    federated_archives.check_installed(Path())
    training = Settings(
        faces=settings.faces, clips=settings.clips, augment=settings.augment,
        model=settings.model, train=settings.train, verdicts=settings.verdicts,
    )  # fmt: skip
    made_by = settings.faces.model_dump(mode="json")
    materials = [
        cropped(chunk, made_by) for chunk in records.read_chunks(settings.chunks, raw, faces)
    ]
    members = federated_runs.deal(materials, names, folder)
    assets = federated_runs.pack(training, folder, weights_cache=weights_cache())
    rounds = settings.federated.rounds
    plans = federated_runs.plans_of(federated_runs.KINDS, names, rounds=rounds)
    environment = federated_local.task_environment(os.environ, folder)
    steps = federated_runs.run(plans, members, assets, folder, environment=environment)
    answers = {}
    for step in progress(steps, total=sum(len(plan.tasks) + 1 for plan in plans), label="tasks"):
        if done := step.submission:
            home = federated_runs.home_of(folder, done.plan, done.key)
            predictions = home / federated_local.PREDICTIONS
            answers[done.plan] = federated_results.read_answers(members, predictions)
            if step.is_new:
                with open_tracker(Path.cwd(), key=federated_board.run_key(done)) as tracker:
                    federated_board.log(done, tracker)
    summary = federated_results.summarise(answers, settings.evaluate)
    federated_results.write(summary, metrics)
    sys.stdout.write(federated_results.table(summary) + "\n")


if __name__ == "__main__":
    run_stage(main)
