"""The federated benchmark's commands: python federated/submit.py COMMAND, or unmask federated."""

from unmask.federated_cli import federated

if __name__ == "__main__":
    federated()
