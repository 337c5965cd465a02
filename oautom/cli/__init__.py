"""Internal. The command line `oautom`: verbs in modules of their own, `main` joins them.

It needs the extra `oautom[cli]`, and nothing else imports it.
"""
