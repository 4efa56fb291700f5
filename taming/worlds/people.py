"""People: placeholder until bodies are built."""

JOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
SKELETON: list[list[int]] = []


def people_available() -> bool:
    return False


def require_people() -> None:
    raise ImportError('people need the extra: pip install "taming[people]"')
