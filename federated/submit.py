"""The federated benchmark's commands: python federated/submit.py COMMAND, or unmask federated."""

from unmask.cli.federated import federated

if __name__ == "__main__":
    federated()
