"""`python -m niwaki.cli`, for machines where the script is not on the path."""

from niwaki.cli.main import main

main()
