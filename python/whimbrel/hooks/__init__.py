"""The extension surface: what a program or plugin may decide and what it may be told.

`points` declares all of it in one file, `registry` holds who registered, `runner` runs them with deadlines and bounds,
`breaker` takes a failing hook out for a while. Our own features use these points and nothing else.

    data plane --question--> runner --> hook 1, hook 2 ... first answer wins --> default --> data plane
    data plane --notices---> runner --> one bounded queue for each hook --> the hook, with a batch
"""
