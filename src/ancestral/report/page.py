"""x"""
def write_report(run): raise NotImplementedError
