"""Pages for people, served on this machine: one file each, without a build step and without a network."""
