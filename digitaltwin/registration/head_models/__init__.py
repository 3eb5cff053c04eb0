"""Head models of other people as the head model of this package: ICT-FaceKit, GNM Head v3, or any linear one."""
