"""What a task, model, guide, policy or selector promises, as checks that anybody can call on a class of their own.

Each raises ``AssertionError`` with a sentence that names the fault, and returns None where there is none::

    def test_my_task():
        gp.testing.check_task(MyTask())
"""

from .guides import check_guide
from .models import check_model
from .policies import check_policy
from .selectors import check_selector
from .tasks import check_task

__all__ = ["check_guide", "check_model", "check_policy", "check_selector", "check_task"]
