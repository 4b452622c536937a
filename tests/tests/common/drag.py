"""A window of Qt's that drags or is dropped upon, with all that its types hold as files.

drag.py source FOLDER: the nth drag has what is in FOLDER/n: a file for each type, named as the type with a ! for its slash.
                       How it ended is in FOLDER/ended-n.
drag.py target FOLDER: what the nth drop had is put into FOLDER/n in the same way.
"""

import os
import sys

from PyQt5.QtCore import QMimeData, QPoint, Qt
from PyQt5.QtGui import QColor, QDrag, QPixmap
from PyQt5.QtWidgets import QApplication, QWidget

role, folder = sys.argv[1:3]


class Window(QWidget):
    def __init__(self):
        super().__init__()
        self.setWindowTitle(role)
        self.setFixedSize(260, 180)
        self.setAcceptDrops(role == "target")
        self.count = 0
        self.pressed = False

    def mousePressEvent(self, _):
        self.pressed = True

    def mouseReleaseEvent(self, _):
        self.pressed = False

    def mouseMoveEvent(self, _):
        if role != "source" or not self.pressed:
            return
        self.pressed = False
        self.count += 1
        items = os.path.join(folder, str(self.count))
        data = QMimeData()
        for name in os.listdir(items):
            with open(os.path.join(items, name), "rb") as file:
                data.setData(name.replace("!", "/"), file.read())
        drag = QDrag(self)
        drag.setMimeData(data)
        pixmap = QPixmap(60, 40)
        pixmap.fill(QColor(255, 0, 0))
        drag.setPixmap(pixmap)
        drag.setHotSpot(QPoint(30, 20))
        action = int(drag.exec_(Qt.CopyAction | Qt.MoveAction, Qt.CopyAction))
        with open(os.path.join(folder, f"ended-{self.count}"), "w") as file:
            file.write(f"{action}\n")

    def dragEnterEvent(self, event):
        event.acceptProposedAction()

    def dropEvent(self, event):
        self.count += 1
        items = os.path.join(folder, str(self.count))
        os.mkdir(items + ".new")
        for name in event.mimeData().formats():
            with open(os.path.join(items + ".new", name.replace("/", "!")), "wb") as file:
                file.write(bytes(event.mimeData().data(name)))
        os.rename(items + ".new", items)
        event.acceptProposedAction()


app = QApplication(sys.argv)
window = Window()
window.show()
app.exec_()
