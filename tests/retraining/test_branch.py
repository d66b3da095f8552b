"""The branch of the results: merged with what triggered, and never at the cost of the checkout."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.retraining import branch as git
from pipeline.runtime.errors import InputError
from tests.retraining.conftest import METRICS, Repository

BRANCH = "retrained"


def begin(trigger: str | None = None) -> git.Start:
    git.fetch("origin", BRANCH)
    start = git.merge("origin", BRANCH, trigger or git.head())
    git.check_out(BRANCH, start.commit)
    return start


def results(lock: str, figures: str = "{}\n") -> None:
    """What a retraining leaves in the checkout."""
    Path("dvc.lock").write_text(lock)
    Path(METRICS).parent.mkdir(parents=True, exist_ok=True)
    Path(METRICS).write_text(figures)


def test_the_checkout_is_on_a_branch_or_at_a_commit(repository: Repository) -> None:
    assert git.position() == "main"
    repository.git("checkout", "--quiet", "--detach")
    assert git.position() == git.short(git.head())


def test_the_first_time_the_branch_starts_at_the_trigger_and_gets_the_results(repository: Repository) -> None:
    start = begin()
    assert (start.before, start.merged, start.commit) == (None, (), repository.git("rev-parse", "main"))
    results("a\n")
    assert git.commit_results("Retrain")
    assert not git.commit_results("Retrain")
    assert git.push("origin", BRANCH)
    assert repository.read("origin/retrained", "dvc.lock") == "a"
    assert repository.read("origin/retrained", METRICS) == "{}"
    assert repository.git("log", "-1", "--format=%an") == "rnnlm retrain"
    assert repository.git("rev-parse", "main") == start.commit


def test_the_next_time_it_starts_at_its_tip_merged_with_the_trigger(repository: Repository) -> None:
    begin()
    results("a\n")
    git.commit_results("Retrain")
    git.push("origin", BRANCH)
    tip = git.head()
    repository.git("checkout", "-q", "main")
    trigger = repository.commit(params="size: 2\n")
    start = begin()
    assert (start.before, start.merged) == (tip, (trigger,))
    assert Path("dvc.lock").read_text() == "a\n"
    assert Path("params.yaml").read_text() == "size: 2\n"
    again = begin(trigger)
    assert (again.commit, again.merged) == (start.commit, ())


def test_where_both_sides_have_results_those_of_the_branch_stay(repository: Repository) -> None:
    between = "unchanged\n" * 8  # far enough apart, git would merge the two changes without a conflict
    repository.commit(dvc_lock=f"a: 1\n{between}b: 1\n", metrics="{}\n", old="x")
    base = git.head()
    begin()
    Path("dvc.lock").write_text(f"a: 2\n{between}b: 1\n")
    Path(METRICS).unlink()  # as when a cell is taken out
    git.commit_results("Retrain")
    git.push("origin", BRANCH)
    repository.git("checkout", "-q", "main")
    trigger = repository.commit(dvc_lock=f"a: 1\n{between}b: 3\n", metrics='{"perplexity": 3}\n')
    start = begin()
    assert start.merged == (trigger,)
    assert Path("dvc.lock").read_text() == f"a: 2\n{between}b: 1\n"
    assert not Path(METRICS).exists()
    assert repository.git("status", "--porcelain") == ""
    assert repository.git("merge-base", "--is-ancestor", base, "HEAD") == ""


def test_results_that_only_the_trigger_has_are_taken(repository: Repository) -> None:
    repository.commit(dvc_lock="a: 1\n")
    begin()
    git.push("origin", BRANCH)
    repository.git("checkout", "-q", "main")
    repository.commit(dvc_lock="a: 9\n")
    begin()
    assert Path("dvc.lock").read_text() == "a: 9\n"


def test_a_conflict_of_inputs_is_said_and_changes_nothing(repository: Repository) -> None:
    begin()
    repository.commit(params="size: 3\n")
    git.push("origin", BRANCH)
    repository.git("checkout", "-q", "main")
    repository.commit(params="size: 2\n", dvc_lock="a\n")
    before = repository.git("for-each-ref"), repository.git("rev-parse", "HEAD")
    with pytest.raises(
        InputError, match=r"cannot be merged into retrained: both changed params\.yaml; merge"
    ) as caught:
        begin()
    assert "\n" not in str(caught.value)
    assert (repository.git("for-each-ref"), repository.git("rev-parse", "HEAD")) == before
    assert repository.git("branch", "--show-current") == "main"
    assert repository.git("status", "--porcelain") == ""
    assert Path("params.yaml").read_text() == "size: 2\n"
    assert len(repository.git("worktree", "list").splitlines()) == 1


def test_a_project_may_be_a_folder_of_a_larger_repository(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, between = repository.folder / "ml" / "words", "unchanged\n" * 8

    def commit(**files: str) -> str:
        for name, content in files.items():
            (project / name.replace("_", ".")).write_text(content)
        return repository.commit()

    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    commit(dvc_lock=f"a: 1\n{between}b: 1\n", params_yaml="size: 1\n")
    begin()
    results(f"a: 2\n{between}b: 1\n")
    assert git.commit_results("Retrain")
    assert git.push("origin", BRANCH)
    repository.git("checkout", "-q", "main")
    trigger = commit(dvc_lock=f"a: 1\n{between}b: 3\n", params_yaml="size: 2\n")
    assert begin().merged == (trigger,)
    assert Path("dvc.lock").read_text() == f"a: 2\n{between}b: 1\n"
    assert Path("params.yaml").read_text() == "size: 2\n"
    repository.git("checkout", "-q", "main")
    results("uncommitted\n")
    aside = git.check_out(BRANCH, repository.git("rev-parse", BRANCH))
    assert aside is not None
    assert (aside / "dvc.lock").read_text() == "uncommitted\n"
    Path("params.yaml").write_text("size: 4\n")
    with pytest.raises(InputError, match=r"^params\.yaml: changed, but not committed"):
        git.check_clean()
    repository.git("commit", "-qam", "by hand")
    repository.git("checkout", "-q", "main")
    commit(params_yaml="size: 3\n")
    with pytest.raises(InputError, match=r"both changed ml/words/params\.yaml; merge them by hand"):
        begin()


def test_a_repository_that_git_does_not_trust_is_one(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(InputError, match=r"^git cannot read the repository here: fatal: detected dubious ownership"):
        git.check_clean()


def test_a_merge_that_was_killed_is_made_again_as_the_same_commit(repository: Repository) -> None:
    begin()
    results("a\n")
    git.commit_results("Retrain")
    git.push("origin", BRANCH)
    repository.git("checkout", "-q", "main")
    trigger = repository.commit(params="size: 2\n")
    repository.git("worktree", "add", "-q", "--detach", str(git.WORKTREE), "main")  # what a kill leaves
    commits = {git.merge("origin", BRANCH, trigger).commit for _ in range(2)}
    assert len(commits) == 1
    assert commits != {trigger}


def test_results_that_were_never_pushed_are_not_lost(repository: Repository) -> None:
    begin()
    git.push("origin", BRANCH)
    results("a\n")
    git.commit_results("Retrain")
    tip = git.head()
    repository.git("checkout", "-q", "main")
    start = begin()
    assert (start.before, start.merged, start.commit) == (tip, (), tip)
    assert Path("dvc.lock").read_text() == "a\n"
    assert git.push("origin", BRANCH)


def test_a_push_that_comes_second_is_told_apart_from_one_that_fails(repository: Repository, tmp_path: Path) -> None:
    begin()
    git.push("origin", BRANCH)
    other = repository.clone(tmp_path / "other")
    results("mine\n")
    git.commit_results("Retrain")
    os.chdir(other)
    begin()
    results("theirs\n")
    git.commit_results("Retrain")
    assert git.push("origin", BRANCH)
    os.chdir(repository.folder)
    assert not git.push("origin", BRANCH)
    begin(repository.git("rev-parse", "main"))
    assert Path("dvc.lock").read_text() == "theirs\n"
    assert git.push("origin", BRANCH)
    repository.git("remote", "set-url", "origin", "https://me:secret@127.0.0.1:1/x.git")
    repository.commit(params="size: 2\n")
    with pytest.raises(InputError, match="git cannot push retrained to origin") as caught:
        git.push("origin", BRANCH)
    assert "secret" not in str(caught.value)


def test_a_remote_branch_that_was_deleted_does_not_haunt(repository: Repository) -> None:
    begin()
    git.push("origin", BRANCH)
    repository.git("push", "-q", "origin", "--delete", BRANCH)
    repository.git("update-ref", "refs/remotes/origin/retrained", "main")
    repository.git("checkout", "-q", "main")
    repository.git("branch", "-q", "-D", BRANCH)
    assert begin().before is None


def test_a_shallow_clone_merges_too(repository: Repository, tmp_path: Path) -> None:
    begin()
    results("a\n")
    git.commit_results("Retrain")
    git.push("origin", BRANCH)
    repository.git("checkout", "-q", "main")
    repository.commit(params="size: 2\n")
    repository.git("push", "-q", "origin", "main")
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.bare}", str(tmp_path / "shallow"))
    os.chdir(tmp_path / "shallow")
    begin()
    assert Path("dvc.lock").read_text() == "a\n"
    assert Path("params.yaml").read_text() == "size: 2\n"


def test_changed_inputs_are_refused_changed_results_go(repository: Repository) -> None:
    begin()
    results("a\n")
    git.commit_results("Retrain")
    repository.git("checkout", "-q", "main")
    results("of a kill\n")
    Path("stray.txt").write_text("git does not track this")
    git.check_clean()
    begin()  # dvc.lock, which main does not track, is in the way
    assert Path("dvc.lock").read_text() == "a\n"
    assert Path("stray.txt").is_file()
    Path("params.yaml").write_text("size: 5\n")
    with pytest.raises(InputError, match=r"params\.yaml: changed, but not committed"):
        git.check_clean()


@pytest.mark.parametrize("ignored", [False, True])
def test_files_that_no_commit_holds_are_never_replaced(repository: Repository, tmp_path: Path, ignored: bool) -> None:
    begin()
    other = repository.clone(tmp_path / "other")
    repository.git("checkout", "-q", "-b", BRANCH, folder=other)
    for name in ("corpus/new.csv", "data/notes.txt"):
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_text("a colleague's")
    repository.git("add", "-f", "-A", folder=other)
    repository.git("commit", "-q", "-m", "more text", folder=other)
    repository.git("push", "-q", "origin", BRANCH, folder=other)
    repository.git("checkout", "-q", "main")
    if ignored:
        (repository.folder / ".git/info/exclude").write_text("*.csv\n*.txt\n")
    for name in ("corpus/new.csv", "data/notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
    with pytest.raises(InputError, match=r"where these lie, which no commit holds: corpus/new\.csv, data/notes\.txt; "):
        begin()
    assert (Path("corpus/new.csv").read_text(), Path("data/notes.txt").read_text()) == ("mine", "mine")
    assert repository.git("branch", "--show-current") == "main"


def test_results_that_are_in_the_way_are_kept_aside_and_nothing_else_is_committed(repository: Repository) -> None:
    repository.commit(dvc_lock="of main\n", metrics="{}\n")
    begin()
    results("mine, not committed\n", '{"mine": 1}\n')
    Path("data/models/lstm").mkdir(parents=True)
    Path("data/models/lstm/history.csv").write_text("new\n")
    Path("data/private.csv").write_text("not a result\n")
    start = git.merge("origin", BRANCH, repository.git("rev-parse", "main"))
    folder = git.check_out(BRANCH, start.commit)
    assert folder is not None
    assert Path("dvc.lock").read_text() == "of main\n"
    assert (folder / "dvc.lock").read_text() == "mine, not committed\n"
    assert (folder / METRICS).read_text() == '{"mine": 1}\n'
    assert git.check_out(BRANCH, start.commit) is None
    results("b\n")
    repository.git("add", "-f", "data/private.csv")  # someone's next commit, not ours
    assert git.commit_results("Retrain")
    changed = repository.git("show", "--name-only", "--format=", "HEAD").splitlines()
    assert changed == ["data/models/lstm/history.csv", "dvc.lock"]
    assert repository.git("diff", "--cached", "--name-only") == "data/private.csv"


def test_a_push_that_is_refused_for_a_moment_is_tried_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    repository.commit(params="size: 7\n")
    lock = repository.bare / "refs/heads/retrained.lock"  # as while another push is under way
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    monkeypatch.setattr(git, "time", SimpleNamespace(sleep=lambda _: lock.unlink()))
    assert git.push("origin", BRANCH)
    assert repository.git("rev-parse", BRANCH, folder=repository.bare) == git.head()


def test_a_push_that_a_rule_forbids_is_said_in_the_words_of_the_remote(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "PAUSE_SECONDS", 0)
    hook = repository.bare / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    begin()
    with pytest.raises(InputError, match=r"^git cannot push retrained to origin: .*pre-receive hook declined"):
        git.push("origin", BRANCH)


def test_a_remote_that_falls_silent_is_given_up_with_the_limit_in_the_line(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        repository.git("remote", "set-url", "origin", f"git://127.0.0.1:{silent.getsockname()[1]}/x.git")
        monkeypatch.setenv("RNNLM_TRANSFER_SECONDS", "0.2")
        with pytest.raises(
            InputError, match=r"^git cannot reach origin: no end after 0\.2 seconds; .*TRANSFER_SECONDS"
        ):
            git.fetch("origin", BRANCH)
    monkeypatch.setenv("RNNLM_TRANSFER_SECONDS", "soon")
    with pytest.raises(InputError, match=r"RNNLM_TRANSFER_SECONDS is 'soon'; set it to a number"):
        git.fetch("origin", BRANCH)


def test_without_a_commit_or_a_repository_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="needs git and a repository with a commit"):
        git.check_clean()


def test_hooks_of_people_do_not_run(repository: Repository) -> None:
    hook = repository.folder / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    begin()
    results("a\n")
    assert git.commit_results("Retrain")


@pytest.mark.parametrize(
    ("remotes", "expected"), [((), None), (("a",), "a"), (("a", "origin"), "origin"), (("a", "b"), None)]
)
def test_which_remote(repository: Repository, remotes: tuple[str, ...], expected: str | None) -> None:
    repository.git("remote", "remove", "origin")
    for name in remotes:
        repository.git("remote", "add", name, str(repository.bare))
    assert git.remote_name() == expected
