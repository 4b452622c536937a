"""A window of Qt's that drags text, formatted text, a picture and data, or is dropped upon: what happened goes to a file."""

import sys

from PyQt5.QtCore import QMimeData, QPoint, Qt
from PyQt5.QtGui import QColor, QDrag, QImage, QPixmap
from PyQt5.QtWidgets import QApplication, QWidget

role, out = sys.argv[1], open(sys.argv[2], "w", buffering=1)


class Window(QWidget):
    def __init__(self):
        super().__init__()
        self.setWindowTitle(role)
        self.setFixedSize(260, 180)
        self.setAcceptDrops(role == "target")

    def mouseMoveEvent(self, _):
        if role != "source":
            return
        data = QMimeData()
        data.setText("plain words")
        data.setHtml("<b>bold words</b>")
        picture = QImage(50, 40, QImage.Format_ARGB32)
        picture.fill(QColor(10, 20, 30))
        data.setImageData(picture)
        data.setData("application/x-own", b"0123456789" * 200_000)
        drag = QDrag(self)
        drag.setMimeData(data)
        pixmap = QPixmap(60, 40)
        pixmap.fill(QColor(255, 0, 0))
        drag.setPixmap(pixmap)
        drag.setHotSpot(QPoint(30, 20))
        print("ended", int(drag.exec_(Qt.CopyAction | Qt.MoveAction, Qt.CopyAction)), file=out)

    def dragEnterEvent(self, event):
        event.acceptProposedAction()

    def dropEvent(self, event):
        data = event.mimeData()
        picture, own = data.imageData(), bytes(data.data("application/x-own"))
        pixel = picture.pixelColor(1, 1).getRgb()[:3]
        whole = own == b"0123456789" * 200_000
        print(data.text(), data.html(), picture.width(), picture.height(), pixel, whole, sep="|", file=out)
        event.acceptProposedAction()


app = QApplication(sys.argv)
window = Window()
window.show()
app.exec_()
