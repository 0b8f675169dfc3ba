"""Weights & Biases for several ranks: one run of rank 0, or one per rank. If W&B is off, all calls do nothing.

    wandb = DistributedWandb(environment, project="digits")
    with wandb.init(config={"lr": 0.1}):
        wandb.log({"loss": 0.3, "images": wandb.Image(pixels)})

Ranks that do not speak to W&B, or all ranks if it is off, run the same lines. They get `Nothing` in place of W&B's
return values, and a dictionary with rank 0's values as the configuration.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from .distributed import broadcast
from .environment import JobEnvironment, WandbEnvironment

INIT_SECONDS = 30.0
"""Limit for the server's answer at the start."""
FINISH_SECONDS = 20.0
"""Limit for sending the remaining rows at the end. W&B itself waits without a limit."""


class DistributedWandbError(RuntimeError):
    """A sweep cannot run, or one of its trials failed."""


class NeverRaisedError(Exception):
    """Stands for W&B's exceptions if it is off, so that `except` can name them."""


class Nothing:
    """Stands for W&B's return values if it is off. It accepts every operation and does nothing."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):  # Protocols that are not defined below, such as copying and pickling.
            raise AttributeError(name)
        return NeverRaisedError if name.endswith("Error") else self

    def __setattr__(self, name: str, value: object) -> None:
        """Set nothing."""

    def __delattr__(self, name: str) -> None:
        """Delete nothing."""

    def __call__(self, *_: object, **__: object) -> Nothing:
        return self

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        """Let exceptions pass."""

    def __getitem__(self, key: object) -> Nothing:
        return self

    def __setitem__(self, key: object, value: object) -> None:
        """Set nothing."""

    def __delitem__(self, key: object) -> None:
        """Delete nothing."""

    def __contains__(self, key: object) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False

    def __int__(self) -> int:
        return 0

    def __float__(self) -> float:
        return 0.0

    def __instancecheck__(self, instance: object) -> bool:
        """As for `isinstance(value, wandb.Image)`."""
        return isinstance(instance, Nothing)

    def __repr__(self) -> str:
        return "Nothing"


class Values(dict[str, Any]):
    """Stands for the configuration and the summary if W&B is off. It stores values."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def update(self, *values: Any, allow_val_change: object = None, **more: object) -> None:  # noqa: ANN401
        """Update as W&B does, which also accepts an argparse.Namespace."""
        del allow_val_change
        for value in values:
            super().update(value if isinstance(value, Mapping) else vars(value))
        super().update(more)

    def setdefaults(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self.setdefault(name, value)

    def as_dict(self) -> dict[str, Any]:
        return dict(self)


class OffRun(Nothing):
    """Stands for a run. Its configuration and summary store values."""

    def __init__(self) -> None:
        object.__setattr__(self, "config", Values())
        object.__setattr__(self, "summary", Values())

    def __enter__(self) -> OffRun:
        return self


class DistributedWandb:
    """The module `wandb` for all ranks. Names that are not defined here come from that module, or are `Nothing`."""

    def __init__(
        self,
        environment: JobEnvironment,
        *,
        no_wandb: bool = False,
        all_processes: bool = False,
        project: str | None = None,
        group: str | None = None,
        resume_id: str | None = None,
        **arguments: Any,  # noqa: ANN401
    ) -> None:
        """Start nothing yet, and use no network.

        Args:
            environment: rank of this process.
            no_wandb: W&B is off, whatever the environment says.
            all_processes: one run per rank, all in one group. Otherwise one run, of rank 0.
            project: project in W&B. Default: WANDB_PROJECT.
            group: group in W&B. Default: WANDB_RUN_GROUP; with `all_processes` the name of the experiment.
            resume_id: the run to continue, from the notes of a checkpoint. WANDB_RUN_ID comes first.
            arguments: further arguments of `wandb.init`.
        """
        set_own = super().__setattr__
        set_own("off_reason", None)
        set_own("run_id", None)
        set_own("offline", False)
        set_own("resume_id", resume_id)
        set_own("all_processes", all_processes)
        set_own("_environment", environment)
        set_own("_found", WandbEnvironment.from_environment())
        set_own("_no_wandb", no_wandb)
        if all_processes:
            group = group or environment.exp_name
        given = {"project": project, "group": group}
        set_own("_arguments", {**{name: value for name, value in given.items() if value is not None}, **arguments})
        set_own("_module", None)
        set_own("_is_set_up", False)
        set_own("_off_run", OffRun())

    offline: bool
    """Whether the run is recorded on disk, for `wandb sync`."""
    off_reason: str | None
    """Why W&B is off in this process; None if it is on. Known after `setup`."""
    run_id: str | None
    """Id of the run, on all ranks, after `init`. None if W&B is off."""
    resume_id: str | None
    all_processes: bool
    _environment: JobEnvironment
    _found: WandbEnvironment
    _no_wandb: bool
    _arguments: dict[str, Any]
    _module: Any
    _is_set_up: bool
    _off_run: OffRun

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """An attribute of the module wandb. If W&B is off, `Nothing` or the values that were stored."""
        if name.startswith("__"):
            raise AttributeError(name)
        if self.setup():
            return getattr(self._module, name)
        if name == "run":
            return self._off_run
        return getattr(self._off_run, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the module wandb, except for those of this object."""
        if name in type(self).__annotations__:
            super().__setattr__(name, value)
        elif self.setup():
            setattr(self._module, name, value)

    def setup(self) -> bool:
        """Return whether W&B is on in this process. If it is off unexpectedly, rank 0 prints why, once."""
        if not self._is_set_up:
            self._is_set_up = True
            self.off_reason = self._why_off()
        return self.off_reason is None

    def _why_off(self) -> str | None:
        if self._no_wandb:
            return "it is switched off"
        if self._found.mode == "disabled":
            return "WANDB_MODE or WANDB_DISABLED says so"
        if self._environment.rank > 0 and not self.all_processes:
            return "rank 0 speaks to it"
        reason = None
        if importlib.util.find_spec("wandb") is None:
            reason = "it is not installed: pip install wandb"
        elif self._found.mode != "offline" and not self._has_key():
            reason = "there is no key in WANDB_API_KEY or netrc: wandb login, or WANDB_MODE=offline"
        if reason is None:
            self._module = importlib.import_module("wandb")
        else:
            self._say(f"off: {reason}")
        return reason

    def _has_key(self) -> bool:
        """Whether there is a key. wandb.login would prompt, and loading the client takes a second."""
        if self._found.has_key or not self._found.netrc.is_file():
            return self._found.has_key
        authentication = importlib.import_module(
            "wandb.sdk.lib.wbauth"
        )  # It knows the server's host, and its older one.
        host = importlib.import_module("wandb").setup().settings.base_url
        return authentication.read_netrc_auth(host=host) is not None

    def _say(self, text: str) -> None:
        if self._environment.rank == 0 or self.all_processes:
            print(f"train.distributed_wandb: W&B is {text}", file=sys.stderr, flush=True)

    def init(self, **arguments: Any) -> Any:  # noqa: ANN401
        """Start a run, or continue that of `resume_id`. All ranks must call it.

        If the server does not answer, the run is recorded on disk, for `wandb sync`. All ranks get rank 0's
        configuration, which a sweep or the server may have changed.

        Args:
            arguments: of `wandb.init`; they override those given to this object.
        """
        arguments = {**self._arguments, **arguments}
        # The agent sets the configuration of the trial.
        named = WandbEnvironment.from_environment().run_id
        name = arguments.pop("id", None) or named or self.resume_id or uuid.uuid4().hex[:8]
        if self.all_processes:
            name = broadcast(name)
            if self._environment.rank > 0:
                name = f"{name}-rank{self._environment.rank}"
        arguments = {"resume": "allow", **arguments, "id": name}
        run = self._begin(arguments) if self.setup() else None
        if run is None:
            run = self._off_run = OffRun()
            run.config.update(_config_of(arguments.get("config")))
        own = (dict(run.config), run.id if self.off_reason is None else None)
        self.offline = self.off_reason is None and bool(run.offline)
        config, self.run_id = own if self.all_processes else broadcast(own)
        if self.off_reason is not None:
            run.config.clear()
            run.config.update(config)
        return run

    def _begin(self, arguments: dict[str, Any]) -> Any:  # noqa: ANN401
        wandb = self._module
        try:
            found = wandb.setup().settings
            # Override W&B's defaults. Older clients have no finish_timeout.
            limits = (("init_timeout", 90.0, INIT_SECONDS), ("finish_timeout", 0.0, FINISH_SECONDS))
            ours = {name: seconds for name, theirs, seconds in limits if getattr(found, name, None) == theirs}
            return wandb.init(**{"settings": wandb.Settings(**ours), **arguments})
        except (TypeError, ValueError):
            raise  # The program's own mistake.
        except Exception as error:  # noqa: BLE001  (W&B must not end a training)
            self._say(f"not reached, and records on the disk: {error}")
        try:
            wandb.teardown()  # Stop the client's service, which may still be starting the run.
            return wandb.init(**{**arguments, "mode": "offline"})
        except Exception as error:  # noqa: BLE001
            self._lose(error)
            return None

    def _lose(self, error: BaseException) -> None:
        self._say(f"lost, and the training goes on without it: {type(error).__name__}: {error}")
        self.off_reason = str(error)
        with contextlib.suppress(Exception):
            self._module.teardown()  # Otherwise Python would retry at its end, and print the failure at length.

    def sweep(self, sweep: Mapping[str, Any] | Callable[[], Any], **arguments: Any) -> str:  # noqa: ANN401
        """Call `wandb.sweep` on rank 0. Return the id of the new sweep on all ranks, which must all call it.

        Raises:
            DistributedWandbError: W&B is off, or refuses. Raised on all ranks.
        """

        def create() -> str:
            found: str = self._module.sweep(sweep, **{**self._project(), **arguments})
            return found

        return str(self._on_rank_0(create))

    def agent(self, sweep_id: str, function: Callable[[], Any], count: int | None = None, **arguments: Any) -> int:  # noqa: ANN401
        """Run trials of a sweep as `wandb.agent` does, each on all ranks. All ranks must call it.

        The agent runs on rank 0. `function` must first call `init` of this object, which gives the ranks the
        configuration of the trial. On rank 0 it does not run in the main thread, which handles signals.

        Args:
            sweep_id: as `sweep` returns it, or ENTITY/PROJECT/ID.
            function: the training, on each rank.
            count: maximum number of trials. None: until the sweep has no more.
            arguments: further arguments of `wandb.agent`.

        Returns:
            The number of trials.

        Raises:
            DistributedWandbError: W&B is off or does not answer (on all ranks). In a single process also if some
                trials failed, after the others have run. With several ranks a failure ends the run.
        """
        self._on_rank_0(lambda: None)
        if self._environment.rank > 0:
            trials = 0
            while self._on_rank_0(lambda: None):
                function()
                trials += 1
            return trials
        several, trials, failures = self._environment.world_size > 1, 0, list[BaseException]()

        def trial() -> None:
            nonlocal trials
            trials += 1
            try:
                self._on_rank_0(lambda: True)
                function()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # The agent's thread would count sys.exit as success.
                failures.append(error)
                raise DistributedWandbError(f"trial {trials} failed: {error!r}") from error

        if several:
            arguments = {"max_consecutive_failed_runs": 1, **arguments}
        arguments = {**self._project(), **arguments}
        problem = None
        try:
            self._module.agent(sweep_id, function=trial, count=count, **arguments)
        except Exception as error:  # noqa: BLE001  (the other ranks wait)
            problem = error
        if failures:
            # The other ranks are in the trial, or failed with it: do not call them.
            raise DistributedWandbError(
                f"{len(failures)} of {trials} trials failed, the first: {failures[0]!r}"
            ) from failures[0]

        def end() -> None:
            if problem is not None:
                raise problem

        self._on_rank_0(end)
        return trials

    def _project(self) -> dict[str, str]:
        return {"project": self._arguments["project"]} if "project" in self._arguments else {}

    def _on_rank_0(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Return on all ranks what `function` returns on rank 0.

        Raises:
            DistributedWandbError: it failed, or W&B is off. Raised on all ranks.
        """
        problem, result = None, None
        if self._environment.rank == 0:
            if not self.setup():
                problem = f"a sweep needs W&B, which is off: {self.off_reason}"
            else:
                try:
                    result = function()
                except Exception as error:  # noqa: BLE001  (the other ranks wait)
                    problem = f"{type(error).__name__}: {error}"
        problem, result = broadcast((problem, result))
        if problem is not None:
            raise DistributedWandbError(problem)
        return result

    def log(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401
        """Call `wandb.log`. A failure of W&B is printed once and ignored."""
        self._attempt("log", *arguments, **more)

    def watch(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401
        """Call `wandb.watch` in the same way."""
        self._attempt("watch", *arguments, **more)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Write `values` to the summary of the run, in the same way."""
        if self.setup():
            try:
                self._module.run.summary.update(dict(values))
            except Exception as error:  # noqa: BLE001
                self._lose(error)

    def finish(self, exit_code: int | None = None) -> None:
        """End the run. Rows that are not sent in time stay on disk, for `wandb sync`."""
        self._attempt("finish", exit_code=exit_code)

    def _attempt(self, method: str, *arguments: Any, **more: Any) -> None:  # noqa: ANN401
        if self.setup():
            try:
                getattr(self._module, method)(*arguments, **more)
            except (TypeError, ValueError):
                raise  # The program's own mistake.
            except Exception as error:  # noqa: BLE001  (usually of its service)
                self._lose(error)


def _config_of(config: object) -> Mapping[str, Any]:
    """The configuration in any form that `wandb.init` accepts, except the name of a file."""
    if config is None or isinstance(config, str):
        return {}
    return config if isinstance(config, Mapping) else vars(config)
