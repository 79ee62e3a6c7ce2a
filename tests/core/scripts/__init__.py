"""The first line of scripts and libraries."""
