"""`python -m tests.support.witness serve …`: lmx, as `python -m lmx` starts it, with its answers looked at."""

from lmx.cli import main
from tests.support.witness.hook import install_in_server

install_in_server()
main()
