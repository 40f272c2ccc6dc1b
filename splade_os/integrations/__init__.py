"""Other people's frameworks, on what is below: one file each, an extra each.

Nothing else imports this package, and it imports no framework: name the module
(``from splade_os.integrations.langchain import SpladeRetriever``).
"""
