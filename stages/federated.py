"""The federated benchmark: python stages/federated.py RAW FACES FOLDER METRICS ORGANISATIONS."""

import os
import sys
from pathlib import Path

from unmask import params
from unmask.cli.common import open_tracker, progress, run_stage, weights_cache
from unmask.data import copies
from unmask.federated import archives, leaderboard, local, results, runs
from unmask.federated.samples import cropped
from unmask.models.settings import Settings
from unmask.runtime import record_files


def main() -> None:
    """Run a plan of each kind; FOLDER keeps those that are done, METRICS gets what they scored."""
    raw, faces, folder, metrics = map(Path, sys.argv[1:5])
    names = runs.names_of(int(sys.argv[5]))
    settings = params.load()
    archives.check_installed(Path())
    training = Settings.of(settings)
    made_by = settings.faces.model_dump(mode="json")
    materials = [
        cropped(chunk, made_by)
        for chunk in copies.settle(record_files.read_chunks(settings.chunks, raw, faces), raw)
    ]
    members = runs.deal(materials, names, folder)
    assets = runs.pack(training, folder, weights_cache=weights_cache())
    rounds = settings.federated.rounds
    plans = runs.plans_of(runs.KINDS, names, rounds=rounds)
    environment = local.task_environment(os.environ, folder)
    steps = runs.run(plans, members, assets, folder, environment=environment)
    answers = {}
    for step in progress(steps, total=sum(len(plan.tasks) + 1 for plan in plans), label="tasks"):
        if done := step.submission:
            home = runs.home_of(folder, done.plan, done.key)
            predictions = home / local.PREDICTIONS
            answers[done.plan] = results.read_answers(members, predictions)
            if step.is_new:
                with open_tracker(Path.cwd(), key=leaderboard.run_key(done)) as tracker:
                    leaderboard.log(done, tracker)
    summary = results.summarise(answers, settings.evaluate)
    results.write(summary, metrics)
    sys.stdout.write(results.table(summary) + "\n")


if __name__ == "__main__":
    run_stage(main)
