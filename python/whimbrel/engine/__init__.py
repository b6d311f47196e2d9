"""The typed face of the data plane, and the only package that imports the binding `whimbrel._core`.

`options` turns settings into what the data plane needs, `engine` runs one data plane on one asyncio loop, `tap` is an
internal subscriber, `records` and `client` re-export the binding's types. It knows no hooks, no use cases, no JSON.

Only `records` and `client` import the binding when they are loaded; the rest loads without it.
"""
