"""The commands of the site for `manage.py`."""
