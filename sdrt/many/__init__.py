"""Many pictures in one run: what each is to be, how its file is called, and sheets of all of them.

    files of prompts, axes, frames --> Asked --resolve_jobs--> Job: a request and its file, for each picture

Words and values of settings (`setting_words`) come from the signature of `sdrt.request.resolve_request`.
"""
