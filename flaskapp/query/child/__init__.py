"""The process that asks: it knows one question, one connection and its limits, and nothing of the application.

Started as `python -m child` with this folder's parent on its path, so that nothing else is imported. One line of JSON
comes in, one goes out. When its parent dies or gives up, standard input ends: it cancels what runs and ends itself.
"""
