"""The page and the API: uploads, a queue, worker processes that answer.

It faces strangers: what is sent is limited, checked and cleaned here before anybody else sees it.
"""
