from pipeline.tuning.sweep import Sweep, ranked
from tests.projects import Project


def test_try(prepared: Project, capsys) -> None:
    s = Sweep()
    s.require_free("tuned")
    s.run(0.03)
    for r in ranked(s.records()):
        print(r)
    print(s.write("tuned"))
    print(open("params.yaml").read()[-900:])
