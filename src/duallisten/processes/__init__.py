"""The processes of a launch: supervisor, workers, fork server, reloader; and notifications to a service manager."""
