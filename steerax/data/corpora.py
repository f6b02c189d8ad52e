"""Texts that come with Python."""


def pydoc_text() -> str:
    """All topics of Python's own documentation, in alphabetical order: about 465 000 characters."""
    import pydoc_data.topics

    topics = pydoc_data.topics.topics
    return "\n\n".join(topics[name] for name in sorted(topics))
