"""What a program is to Pyro: its effects, its guide, its objective."""
