"""`python -m plinth`."""

from plinth.commands.main import main

raise SystemExit(main())
