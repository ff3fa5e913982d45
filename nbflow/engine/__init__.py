"""The engine: events in, commands out. It knows no clock, thread, file or network."""
