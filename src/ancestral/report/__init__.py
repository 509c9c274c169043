"""What a person looks at: pictures of samples and completions, proofs in words, report.html."""

from ancestral.report.contents import write_report

__all__ = ["write_report"]
