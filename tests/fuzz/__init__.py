"""Coverage-guided fuzzing of every parser of the measuring core with atheris; `./nox -s fuzz`."""
